/** A message as it is handed from layer to layer. */

/** In pieces behind each other if it is long: it is never copied into one, and each goes once it is sent. */
export type Message = Buffer | readonly Buffer[];

export const piecesOf = (message: Message): readonly Buffer[] =>
  Buffer.isBuffer(message) ? [message] : message;

export function bytesOf(message: Message): number {
  if (Buffer.isBuffer(message)) return message.length;
  return message.reduce((sum, { length }) => sum + length, 0);
}

/** In one piece, for those who can take no other. */
export function joined(message: Message): Buffer {
  const [first, ...others] = piecesOf(message);
  return first !== undefined && others.length === 0 ? first : Buffer.concat(piecesOf(message));
}
