/**
 * The Huffman code of HPACK (RFC 7541 appendix B), for decoding.
 *
 * The code is canonical: codes of one length follow each other in the order of their symbols, shorter
 * ones come first. So the lengths are all there is to know. Decoding goes four bits at a time through
 * the inner nodes of the code tree; the shortest code has five, so that a step ends at most one symbol.
 */
import { ConnectionError, ErrorCode } from './error.ts';

/** Bits of the code of each symbol; the end-of-string symbol, 256, comes last. */
const lengths: readonly number[] = [
  '13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28',
  '6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10',
  '13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6',
  '15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28',
  '20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24',
  '22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23',
  '26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27',
  '20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26',
]
  .flatMap((row) => row.split(' ').map(Number))
  .concat(30);

const END_OF_STRING = 256;
const LONGEST = 30;
/** An entry of the step table: the next node, the symbol that the step ends, and whether it does. */
const NODE_BITS = 9;
const NODE_MASK = 2 ** NODE_BITS - 1;
const HAS_SYMBOL = 1 << 17;
const NO_STEP = 1 << 18;
/** Padding is shorter than a byte. */
const PADDING_BITS_MAX = 7;

/** The two ways from each inner node: another inner node, or -1 - symbol. The root is node 0. */
function growTree(): number[][] {
  const nodes: number[][] = [[0, 0]];
  let code = 0;
  for (let bits = 1; bits <= LONGEST; bits++) {
    code *= 2;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== bits) continue;
      let node = nodes[0] ?? [];
      for (let bit = bits - 1; bit > 0; bit--) {
        const side = Math.floor(code / 2 ** bit) % 2;
        if (node[side] === 0) {
          node[side] = nodes.length;
          nodes.push([0, 0]);
        }
        node = nodes[node[side] ?? 0] ?? [];
      }
      node[code % 2] = -1 - symbol;
      code += 1;
    }
  }
  return nodes;
}

const nodes = growTree();
const steps = new Int32Array(nodes.length * 16);
/** Nodes at which a string may end: what was read since the last symbol is a beginning of all ones. */
const isEnd = new Uint8Array(nodes.length);

for (let start = 0; start < nodes.length; start++) {
  for (let nibble = 0; nibble < 16; nibble++) {
    let at = start;
    let entry = 0;
    for (let bit = 3; bit >= 0 && entry !== NO_STEP; bit--) {
      const next = nodes[at]?.[(nibble >> bit) & 1] ?? 0;
      if (next >= 0) at = next;
      else if (-1 - next === END_OF_STRING) entry = NO_STEP;
      else {
        entry = HAS_SYMBOL | ((-1 - next) << NODE_BITS);
        at = 0;
      }
    }
    steps[start * 16 + nibble] = entry === NO_STEP ? NO_STEP : entry | at;
  }
}
for (let at = 0, bits = 0; bits <= PADDING_BITS_MAX; bits++) {
  isEnd[at] = 1;
  at = nodes[at]?.[1] ?? 0;
}

/** The shortest code has five bits. */
const mostSymbols = (bytes: number): number => Math.floor((bytes * 8) / 5);

let scratch: Buffer = Buffer.allocUnsafeSlow(1024);

/**
 * The text between `start` and `end`, each byte a character.
 *
 * @throws {ConnectionError} COMPRESSION_ERROR for padding that is too long or not of ones, and for the
 *   end-of-string symbol.
 */
export function decodeHuffman(bytes: Buffer, start: number, end: number): string {
  const needed = mostSymbols(end - start);
  if (scratch.length < needed) scratch = Buffer.allocUnsafeSlow(needed);
  let node = 0;
  let length = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    const first = steps[(node << 4) | (byte >> 4)] ?? NO_STEP;
    if ((first & HAS_SYMBOL) !== 0) scratch[length++] = (first >> NODE_BITS) & 0xff;
    const second =
      first === NO_STEP ? NO_STEP : (steps[((first & NODE_MASK) << 4) | (byte & 15)] ?? 0);
    if (second === NO_STEP) throw broken('the end-of-string symbol');
    if ((second & HAS_SYMBOL) !== 0) scratch[length++] = (second >> NODE_BITS) & 0xff;
    node = second & NODE_MASK;
  }
  if (isEnd[node] !== 1) throw broken('a padding that is none');
  return scratch.toString('latin1', 0, length);
}

const broken = (what: string): ConnectionError =>
  new ConnectionError(ErrorCode.COMPRESSION_ERROR, `a Huffman-coded text contains ${what}`);
