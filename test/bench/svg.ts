/** Drawing by hand: as much of SVG as two kinds of charts need. Logarithmic scales throughout. */

export type Series = { readonly name: string; readonly color: string };

export type Bars = {
  readonly title: string;
  readonly series: readonly Series[];
  readonly groups: readonly {
    readonly label: string;
    readonly bars: readonly {
      readonly series: Series;
      readonly value: number;
      readonly text: string;
    }[];
  }[];
};

export type Lines = {
  readonly title: string;
  /** What the horizontal places are. */
  readonly places: readonly string[];
  readonly placesTitle: string;
  /** A value for each place, where there is one. */
  readonly lines: readonly {
    readonly series: Series;
    readonly values: readonly (number | undefined)[];
  }[];
};

const width = 860;
const margin = 16;
const labelWidth = 290;
const textSpace = 100;
const barHeight = 13;
const groupGap = 12;
const headHeight = 62;
const font = 'font-family="system-ui, sans-serif" font-size="12"';
const ink = '#1f2430';
const faint = '#d9dce3';

export function barChart({ title, series, groups }: Bars): string {
  const values = groups.flatMap((group) => group.bars.map((bar) => bar.value));
  const left = margin + labelWidth;
  const along = logScale(values, left, width - margin - textSpace);
  let y = headHeight;
  const parts: string[] = [];
  for (const { label, bars } of groups) {
    const middle = y + (bars.length * barHeight) / 2 + 4;
    parts.push(text(left - 10, middle, label, 'text-anchor="end"'));
    for (const bar of bars) {
      const end = along.place(bar.value);
      parts.push(
        `<rect x="${left}" y="${y}" width="${number(end - left)}" height="${barHeight - 2}" fill="${bar.series.color}"/>`,
        text(end + 5, y + barHeight - 3, bar.text, 'font-size="11"'),
      );
      y += barHeight;
    }
    y += groupGap;
  }
  const grid = along.ticks.map((tick) => {
    const x = number(along.place(tick));
    return `<line x1="${x}" y1="${headHeight - 6}" x2="${x}" y2="${y}" stroke="${faint}"/>`;
  });
  return frame(title, y + margin, [legend(series), ...grid, ...parts]);
}

export function lineChart({ title, places, placesTitle, lines }: Lines): string {
  const height = 380;
  const left = margin + 70;
  const bottom = height - 52;
  const values = lines.flatMap((line) => line.values.filter((value) => value !== undefined));
  const up = logScale(values, bottom, headHeight);
  const step = (width - left - margin - textSpace) / Math.max(1, places.length - 1);
  const x = (place: number): number => left + place * step;
  const parts = up.ticks.flatMap((tick) => {
    const y = number(up.place(tick));
    return [
      `<line x1="${left}" y1="${y}" x2="${number(x(places.length - 1))}" y2="${y}" stroke="${faint}"/>`,
      text(left - 8, up.place(tick) + 4, tick.toLocaleString('en-US'), 'text-anchor="end"'),
    ];
  });
  places.forEach((place, index) => {
    parts.push(text(x(index), bottom + 20, place, 'text-anchor="middle"'));
  });
  parts.push(
    text((left + x(places.length - 1)) / 2, bottom + 40, placesTitle, 'text-anchor="middle"'),
  );
  for (const { series, values: ofLine } of lines) {
    const points = ofLine.flatMap((value, index) =>
      value === undefined ? [] : [{ x: number(x(index)), y: number(up.place(value)) }],
    );
    const path = points.map((point) => `${point.x},${point.y}`).join(' ');
    parts.push(
      `<polyline points="${path}" fill="none" stroke="${series.color}" stroke-width="2.5"/>`,
    );
    for (const point of points)
      parts.push(`<circle cx="${point.x}" cy="${point.y}" r="3.5" fill="${series.color}"/>`);
  }
  return frame(title, height, [legend(lines.map((line) => line.series)), ...parts]);
}

type Scale = { place(value: number): number; readonly ticks: readonly number[] };

/** Whole powers of ten around all values. */
function logScale(values: readonly number[], from: number, to: number): Scale {
  const logs = values.filter((value) => value > 0).map(Math.log10);
  // Also the least value has a length.
  const low = Math.ceil(Math.min(...logs)) - 1;
  const high = Math.max(low + 1, Math.ceil(Math.max(...logs)));
  return {
    place: (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from),
    ticks: Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)),
  };
}

function legend(series: readonly Series[]): string {
  let x = margin;
  return series
    .map(({ name, color }) => {
      const entry = `<rect x="${x}" y="36" width="11" height="11" fill="${color}"/>${text(x + 16, 46, name)}`;
      x += 34 + name.length * 7;
      return entry;
    })
    .join('\n');
}

function frame(title: string, height: number, parts: readonly string[]): string {
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${font} role="img">`,
    `<title>${escapeText(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(margin, 24, title, 'font-size="15" font-weight="600"'),
    ...parts,
    '</svg>\n',
  ].join('\n');
}

const text = (x: number, y: number, content: string, attributes = ''): string =>
  `<text x="${number(x)}" y="${number(y)}" fill="${ink}" ${attributes}>${escapeText(content)}</text>`;

const number = (value: number): string => `${Number(value.toFixed(1))}`;

const escapeText = (content: string): string =>
  content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
