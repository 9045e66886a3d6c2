/** A setting that cannot be used. One line that names the setting, what was given, what is allowed. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  /** The flag's name without dashes. */
  readonly setting: string;

  constructor(setting: string, message: string) {
    super(message.replaceAll(/\s+/g, ' '));
    this.setting = setting;
  }
}

/** Where a value came from, as the user would look for it. */
export type Origin = { readonly setting: string; readonly writtenAs: string };

export const refuse = (origin: Origin, given: string, allowed: string): ConfigError =>
  new ConfigError(
    origin.setting,
    `cannot use ${JSON.stringify(given)} as ${origin.writtenAs}: it must be ${allowed}`,
  );
