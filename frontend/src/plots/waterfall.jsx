import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { cutsOf, moreRows } from '../data/cuts.js';
import { palette } from '../images/colour_maps.js';
import { levels } from '../images/contrast.js';
import { ticks } from './export.js';

const MARGIN = { left: 58, right: 12, top: 8, bottom: 34 };

/**
 * @typedef {import('../data/cuts.js').CutInfo} CutInfo
 * @typedef {import('../data/cuts.js').CutRows} CutRows
 * @typedef {object} Props
 * @property {import('../state.js').AppState} state
 * @property {import('../data/open_run.js').OpenRun} run
 * @property {ReturnType<typeof import('../data/series.js').timeAxis>} axis
 */

/**
 * A cut of every frame, frames to the right, its axis upwards.
 * @param {Props} props
 */
export function Waterfall({ state, run, axis }) {
  const version = run.version.value;
  const [cuts, setCuts] = useState(/** @type {CutInfo[] | null} */ (null));
  const [name, setName] = useState('');
  const [data, setData] = useState(/** @type {CutRows | null} */ (null));
  const canvas = /** @type {{current: HTMLCanvasElement}} */ (/** @type {any} */ (useRef(null)));
  const [size, setSize] = useState({ width: 300, height: 150 });
  const info = cuts?.find((cut) => cut.name === name) ?? cuts?.[0];

  useEffect(() => {
    let current = true;
    const load = async () => {
      const found = cuts?.length ? cuts : await cutsOf(run.api, run.path);
      const chosen = found.find((cut) => cut.name === name) ?? found[0];
      if (current && found !== cuts) setCuts(found);
      if (!chosen) return;
      const step = Number(run.start.gixi.frame_step ?? 1);
      const known =
        data?.info.name === chosen.name ? data : { info: chosen, step, first: 0, rows: [] };
      const more = await moreRows(run.api, run.path, known);
      if (current) setData(more);
    };
    load().catch(() => {});
    return () => {
      current = false;
    };
  }, [version, name]);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      setSize({ width: Math.round(width), height: Math.round(height) });
    });
    observer.observe(canvas.current);
    return () => observer.disconnect();
  }, []);
  const picture = useMemo(
    () => data && data.rows.length && painted(data, state.colours.value),
    [data, state.colours.value],
  );
  useEffect(() => {
    const context = canvas.current.getContext('2d');
    if (!context) return;
    context.clearRect(0, 0, size.width, size.height);
    if (!picture || !data) return;
    const times = (/** @type {number} */ row) => axis.at((data.first + row) * data.step);
    draw(context, size, picture, data.info, [times(0), times(data.rows.length - 1)], {
      ink: getComputedStyle(canvas.current).color,
      at: axis.at(state.frame.value),
      label: axis.label,
    });
  });

  /** @param {MouseEvent} event */
  const pick = (event) => {
    if (!data?.rows.length) return;
    const share = (event.offsetX - MARGIN.left) / (size.width - MARGIN.left - MARGIN.right);
    const row = Math.round(Math.min(Math.max(share, 0), 1) * (data.rows.length - 1));
    state.show((data.first + row) * data.step);
  };
  return (
    <div class="waterfall">
      {cuts && cuts.length > 1 && (
        <select value={info?.name} onChange={(event) => setName(event.currentTarget.value)}>
          {cuts.map((cut) => (
            <option key={cut.name}>{cut.name}</option>
          ))}
        </select>
      )}
      <canvas
        ref={canvas}
        data-testid="waterfall"
        data-rows={data?.rows.length ?? 0}
        width={size.width}
        height={size.height}
        onClick={pick}
      />
      {cuts && !cuts.length && (
        <p class="absent">
          the configuration of this run has no <code>cuts</code>
        </p>
      )}
    </div>
  );
}

/**
 * @param {CutRows} data
 * @param {string} colours
 */
function painted({ rows, info }, colours) {
  const [width, height] = [rows.length, info.axis.length];
  const values = new Float64Array(width * height);
  rows.forEach((row, x) => row.forEach((value, bin) => (values[bin * width + x] = value)));
  const shown = levels(values, 'log');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colour = palette(colours);
  for (let bin = 0; bin < height; bin++) {
    for (let x = 0; x < width; x++) {
      pixels[(height - 1 - bin) * width + x] = colour[shown[bin * width + x]];
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{width: number, height: number}} size
 * @param {HTMLCanvasElement} picture
 * @param {CutInfo} info
 * @param {[number, number]} range times of the first and the last row
 * @param {{ink: string, at: number, label: string}} marks
 */
function draw(context, { width, height }, picture, info, [first, last], { ink, at, label }) {
  const [w, h] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, MARGIN.left, MARGIN.top, w, h);
  context.fillStyle = ink;
  context.strokeStyle = ink;
  context.font = '12px system-ui, sans-serif';
  const [low, high] = [info.axis[0], info.axis[info.axis.length - 1]];
  context.textAlign = 'right';
  for (const value of ticks([low, high])) {
    const y = MARGIN.top + h - ((value - low) / (high - low)) * h;
    context.fillText(String(value), MARGIN.left - 6, y + 4);
  }
  context.textAlign = 'center';
  const span = Math.max(last - first, 1e-9);
  for (const value of last > first ? ticks([first, last]) : []) {
    context.fillText(String(value), MARGIN.left + ((value - first) / span) * w, height - 20);
  }
  context.fillText(label, MARGIN.left + w / 2, height - 4);
  context.save();
  context.translate(14, MARGIN.top + h / 2);
  context.rotate(-Math.PI / 2);
  context.fillText(`${info.name}: ${info.along}${info.unit ? ` (${info.unit})` : ''}`, 0, 0);
  context.restore();
  if (at >= first && at <= last) {
    const x = MARGIN.left + ((at - first) / span) * w;
    context.setLineDash([3, 3]);
    context.strokeStyle = '#fff';
    context.beginPath();
    context.moveTo(x, MARGIN.top);
    context.lineTo(x, MARGIN.top + h);
    context.stroke();
    context.setLineDash([]);
  }
}
