/** Live progress: bars that redraw themselves on a terminal, a plain line now and then in a pipe. */
import { styleText } from 'node:util';

const BAR_CELLS = 28;
const REDRAW_MS = 80;
const PLAIN_STEPS = 4;

export type Bar = {
  /** Moves the bar; `note` is what happens right now. */
  update(done: number, note?: string): void;
  /** The bar stays where it was last. */
  finish(note: string): void;
};

export function startBar(title: string, total: number): Bar {
  const terminal = process.stdout.isTTY === true && process.env['TERM'] !== 'dumb';
  return terminal ? terminalBar(title, total) : plainBar(title, total);
}

export function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}

export function heading(text: string): void {
  say();
  say(process.stdout.isTTY ? styleText('bold', text) : text);
}

function terminalBar(title: string, total: number): Bar {
  let drawnAtMs = 0;
  let lastDone = 0;
  const draw = (done: number, note: string): void => {
    const filled = Math.round((Math.min(done, total) / total) * BAR_CELLS);
    const bar = '█'.repeat(filled) + '░'.repeat(BAR_CELLS - filled);
    const text = `  ${title.padEnd(12)} ${bar} ${done}/${total}  `;
    const room = (process.stdout.columns ?? 100) - text.length - 1;
    process.stdout.write(`\r\u001b[2K${text}${note.length > room ? '' : note}`);
  };
  return {
    update(done, note = '') {
      lastDone = done;
      const nowMs = performance.now();
      if (nowMs - drawnAtMs < REDRAW_MS && done < total) return;
      drawnAtMs = nowMs;
      draw(done, note);
    },
    finish(note) {
      draw(lastDone, note);
      process.stdout.write('\n');
    },
  };
}

function plainBar(title: string, total: number): Bar {
  let nextStep = 1;
  return {
    update(done, note = '') {
      if (done < (total * nextStep) / PLAIN_STEPS) return;
      nextStep = Math.floor((done * PLAIN_STEPS) / total) + 1;
      say(`  ${title}: ${done}/${total} ${note}`.trimEnd());
    },
    finish(note) {
      say(`  ${title}: ${note}`);
    },
  };
}
