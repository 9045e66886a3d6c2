/** The numbers that the state keeps by name: see table `m` in keys.ts. */
import type { Write } from '../ports.ts';
import { BinaryReader, unsignedSize, writeUnsigned } from './binary.ts';
import type { ForwardReader } from './draft.ts';
import { factKey } from './keys.ts';

const keys = {
  revision: factKey('revision'),
  compactRevision: factKey('compact-revision'),
};

export type NumberFact = keyof typeof keys;

/** Undefined until it is written for the first time. */
export function readFact(reader: ForwardReader, fact: NumberFact): number | undefined {
  const data = reader.get(keys[fact]);
  return data && new BinaryReader(data).unsigned();
}

export function writeFact(fact: NumberFact, value: number): Write {
  const data = Buffer.allocUnsafe(unsignedSize(value));
  writeUnsigned(data, 0, value);
  return { kind: 'put', key: keys[fact], value: data };
}
