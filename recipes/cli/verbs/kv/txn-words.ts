/** Words of a line as a shell and etcdctl read them: 'single', "double" with escapes, or bare. */

const escapes: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\u0007',
  b: '\b',
  f: '\f',
  v: '\v',
  '0': '\0',
};

type Scan = { readonly text: string; at: number };

function readEscape(scan: Scan): Buffer {
  const character = scan.text[scan.at++];
  if (character === undefined) throw new SyntaxError('a backslash ends the line');
  if (character === 'x') {
    const digits = /^[0-9a-fA-F]{2}/.exec(scan.text.slice(scan.at))?.[0];
    if (digits === undefined) throw new SyntaxError('\\x needs two hexadecimal digits');
    scan.at += 2;
    return Buffer.from(digits, 'hex');
  }
  if (character === 'u') {
    const digits = /^[0-9a-fA-F]{4}/.exec(scan.text.slice(scan.at))?.[0];
    if (digits === undefined) throw new SyntaxError('\\u needs four hexadecimal digits');
    scan.at += 4;
    return Buffer.from(String.fromCharCode(Number.parseInt(digits, 16)));
  }
  return Buffer.from(escapes[character] ?? character);
}

function quoted(scan: Scan, quote: string): Buffer {
  const parts: Buffer[] = [];
  let start = scan.at;
  const flush = (): void => {
    parts.push(Buffer.from(scan.text.slice(start, scan.at)));
  };
  for (;;) {
    const character = scan.text[scan.at];
    if (character === undefined) throw new SyntaxError(`the quote ${quote} is not closed`);
    if (character === quote) {
      flush();
      scan.at += 1;
      return Buffer.concat(parts);
    }
    if (character === '\\' && quote === '"') {
      flush();
      scan.at += 1;
      parts.push(readEscape(scan));
      start = scan.at;
    } else {
      scan.at += 1;
    }
  }
}

/** Splits a line into words; quoted parts may hold any byte. @throws SyntaxError */
export function splitWords(line: string): Buffer[] {
  const scan: Scan = { text: line, at: 0 };
  const words: Buffer[] = [];
  let word: Buffer[] | undefined;
  while (scan.at < line.length) {
    const character = line[scan.at] ?? '';
    if (/\s/.test(character)) {
      if (word !== undefined) words.push(Buffer.concat(word));
      word = undefined;
      scan.at += 1;
      continue;
    }
    word ??= [];
    if (character === '"' || character === "'") {
      scan.at += 1;
      word.push(quoted(scan, character));
    } else {
      const bare = /^[^\s"']+/.exec(line.slice(scan.at))?.[0] ?? '';
      scan.at += bare.length;
      word.push(Buffer.from(bare));
    }
  }
  if (word !== undefined) words.push(Buffer.concat(word));
  return words;
}
