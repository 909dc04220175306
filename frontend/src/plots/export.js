/** Curves as files: CSV with all numbers, SVG and PNG on white for a notebook or a talk. */

const WIDTH = 900;
const HEIGHT = 520;
const MARGIN = { left: 84, right: 20, top: 40, bottom: 56 };

/**
 * @typedef {import('../data/series.js').Curve} Curve
 * @typedef {{curves: Curve[], title: string, xLabel: string, yLabel: string,
 *   colour: (curve: Curve, place: number) => string}} Exported
 */

/** @param {Exported} exported */
export function exportCsv(exported) {
  save(new Blob([csv(exported)], { type: 'text/csv' }), `${exported.title}.csv`);
}

/** @param {Exported} exported */
export function exportSvg(exported) {
  save(new Blob([svg(exported)], { type: 'image/svg+xml' }), `${exported.title}.svg`);
}

/** @param {Exported} exported */
export async function exportPng(exported) {
  const source = URL.createObjectURL(new Blob([svg(exported)], { type: 'image/svg+xml' }));
  const image = new Image(WIDTH * 2, HEIGHT * 2);
  image.src = source;
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext('2d')?.drawImage(image, 0, 0, image.width, image.height);
  URL.revokeObjectURL(source);
  canvas.toBlob((blob) => blob && save(blob, `${exported.title}.png`), 'image/png');
}

/**
 * One row a point: curve, x, y and the bounds of y where it has some.
 * @param {Exported} exported
 */
export function csv({ curves, xLabel, yLabel }) {
  const head = ['curve', xLabel, yLabel, 'low', 'high'];
  const rows = curves.flatMap((curve) =>
    curve.x.map((x, row) => [
      curve.label, x, curve.y[row], curve.low?.[row] ?? '', curve.high?.[row] ?? '',
    ]),
  );
  return [head, ...rows].map((row) => row.map(field).join(',')).join('\n') + '\n';
}

/** @param {Exported} exported */
export function svg({ curves, title, xLabel, yLabel, colour }) {
  const xs = extent(curves.flatMap((curve) => curve.x));
  const ys = extent(curves.flatMap((curve) => curve.y));
  const x = scale(xs, MARGIN.left, WIDTH - MARGIN.right);
  const y = scale(ys, HEIGHT - MARGIN.bottom, MARGIN.top);
  const drawn = curves.map((curve, place) => {
    const points = curve.x
      .map((value, row) => [x(value), y(curve.y[row])])
      .filter((point) => point.every(Number.isFinite))
      .map((point) => point.map((value) => value.toFixed(1)));
    const ink = colour(curve, place);
    return curve.points
      ? points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="2.5" fill="${ink}"/>`).join('')
      : `<polyline fill="none" stroke="${ink}" stroke-width="2" points="${points.join(' ')}"/>`;
  });
  const legend = curves.map(
    (curve, place) =>
      `<text x="${MARGIN.left + 10}" y="${MARGIN.top + 18 + place * 16}" ` +
      `fill="${colour(curve, place)}">${escaped(curve.label)}</text>`,
  );
  const axes = [
    ...ticks(xs).map(
      (value) =>
        `<text x="${x(value)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${value}</text>`,
    ),
    ...ticks(ys).map(
      (value) =>
        `<text x="${MARGIN.left - 8}" y="${y(value) + 4}" text-anchor="end">${value}</text>`,
    ),
  ];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" ` +
    `viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="13">` +
    `<rect width="100%" height="100%" fill="#fff"/>` +
    `<text x="${WIDTH / 2}" y="24" text-anchor="middle" font-size="16">${escaped(title)}</text>` +
    `<path fill="none" stroke="#333" d="M${MARGIN.left} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}` +
    `H${WIDTH - MARGIN.right}"/>${axes.join('')}${drawn.join('')}${legend.join('')}` +
    `<text x="${WIDTH / 2}" y="${HEIGHT - 14}" text-anchor="middle">${escaped(xLabel)}</text>` +
    `<text transform="translate(18 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">` +
    `${escaped(yLabel)}</text></svg>`
  );
}

/**
 * Round values within a range, about six of them.
 * @param {[number, number]} range
 */
export function ticks([low, high]) {
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough) ?? rough;
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, place) => Number(((first + place) * step).toPrecision(10)));
}

/**
 * @param {number[]} values
 * @returns {[number, number]}
 */
function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/**
 * @param {[number, number]} range
 * @param {number} from
 * @param {number} to
 */
function scale([low, high], from, to) {
  return (/** @type {number} */ value) => from + ((value - low) / (high - low)) * (to - from);
}

/** @param {string | number} value */
function field(value) {
  const text = String(value);
  // A spreadsheet would run what begins like a formula.
  const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[<>&"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\w.-]+/g, '_');
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
