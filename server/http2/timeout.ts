/** The value of `grpc-timeout`. */

const unitMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

const DIGITS_MAX = 8;

/** In milliseconds, or undefined when it is none: up to eight digits and a unit. */
export function parseTimeout(text: string): number | undefined {
  const digits = text.length - 1;
  const factor = unitMs[text.charAt(digits)];
  if (factor === undefined || digits < 1 || digits > DIGITS_MAX) return undefined;
  let amount = 0;
  for (let at = 0; at < digits; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) return undefined;
    amount = amount * 10 + digit;
  }
  return amount * factor;
}
