/**
 * What the command line itself says beside data: text for people or, with `-o json` or `jsonl`, one JSON
 * object a line. stderr belongs to the process, so its form does, too.
 */
import type { JsonObject } from './output/json.ts';

let isJson = false;

/** Sets the form for everything that is said from now on. */
export function speakJson(json: boolean): void {
  isJson = json;
}

export const speaksJson = (): boolean => isJson;

/** Something that happened: as an object to programs, to people as a sentence if there is one. */
export function tell(event: JsonObject, sentence?: string): void {
  if (isJson) process.stderr.write(`${JSON.stringify(event)}\n`);
  else if (sentence !== undefined) process.stderr.write(`conclave: ${sentence}\n`);
}

/** A remark that is not data. */
export const note = (message: string): void => tell({ event: 'note', message }, message);
