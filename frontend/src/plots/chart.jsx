import uPlot from 'uplot';
import { useEffect, useRef } from 'preact/hooks';

import { textScale } from '../unit.js';

/**
 * @typedef {import('../data/series.js').Curve} Curve
 * @typedef {object} Props
 * @property {Curve[]} curves
 * @property {(curve: Curve, place: number) => string} colour
 * @property {string} xLabel
 * @property {string} yLabel
 * @property {boolean} [log]
 * @property {[number, number]} [yRange]
 * @property {[number, number]} xRange times of the first and the last frame
 * @property {{value: number, label: string, colour: string}[]} [marks] lines across the plot
 * @property {{from: number, to: number, colour: string}[]} [spans] times that are shaded
 * @property {number} at where the frame that is shown lies
 * @property {(x: number) => void} onPick
 */

/**
 * Curves over time with a legend; charts share their cursor, a click picks a time.
 * @param {Props} props
 */
export function Chart(props) {
  const holder = /** @type {{current: HTMLDivElement}} */ (/** @type {any} */ (useRef(null)));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const latest = useRef(props);
  latest.current = props;
  const { curves, log, yLabel, xLabel } = props;
  const shape = JSON.stringify([curves.map((curve) => curve.label), log, yLabel, xLabel]);

  useEffect(() => {
    const box = holder.current;
    const made = new uPlot(options(latest, box), aligned(latest.current.curves), box);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize(sizeOf(box)));
    observer.observe(box);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => {
    plot.current?.setData(aligned(curves));
  }, [curves]);
  useEffect(() => {
    plot.current?.redraw(false);
  }, [props.at]);
  return <div class="chart" ref={holder} />;
}

/**
 * @param {{current: Props}} latest
 * @param {HTMLElement} box
 * @returns {uPlot.Options}
 */
function options(latest, box) {
  const { curves, colour, xLabel, yLabel, log, yRange } = latest.current;
  const style = getComputedStyle(box);
  const ink = style.color;
  const grid = { stroke: style.borderTopColor, width: 1 };
  const scale = textScale();
  const font = `${12 * scale}px system-ui, sans-serif`;
  const axis = { stroke: ink, grid, ticks: grid, font, labelFont: font, labelSize: 18 * scale };
  return {
    ...sizeOf(box),
    scales: {
      x: { time: false, range: () => latest.current.xRange },
      y: { distr: log ? 3 : 1, ...(yRange ? { range: yRange } : {}) },
    },
    axes: [
      { ...axis, label: xLabel, size: 32 * scale },
      { ...axis, label: yLabel, size: 58 * scale },
    ],
    cursor: { sync: { key: 'time' }, drag: { x: false, y: false } },
    legend: { live: false },
    series: [
      { label: xLabel },
      ...curves.map((curve, place) => ({
        label: curve.label,
        stroke: colour(curve, place),
        width: curve.points ? 0 : 2 * scale,
        ...(curve.points ? { paths: () => null } : {}),
        points: { show: curve.points ? true : undefined, size: 5 * scale, fill: colour(curve, place) },
        spanGaps: false,
      })),
    ],
    hooks: {
      drawClear: [(plot) => drawSpans(plot, latest.current)],
      draw: [(plot) => drawMarks(plot, latest.current, ink)],
      ready: [
        (plot) =>
          plot.over.addEventListener('click', () => {
            const { left } = plot.cursor;
            if (left !== undefined && left >= 0) latest.current.onPick(plot.posToVal(left, 'x'));
          }),
      ],
    },
  };
}

/**
 * uPlot wants one x axis for all curves.
 * @param {Curve[]} curves
 * @returns {uPlot.AlignedData}
 */
function aligned(curves) {
  if (curves.some((curve) => curve.points)) return scattered(curves);
  return uPlot.join(curves.map((curve) => [curve.x, curve.y.map(drawn)]));
}

/**
 * Points of which several share an x: each its own column.
 * @param {Curve[]} curves
 * @returns {uPlot.AlignedData}
 */
function scattered(curves) {
  const points = curves.flatMap((curve, place) =>
    curve.x.map((x, row) => ({ x, y: curve.y[row], place })),
  );
  points.sort((a, b) => a.x - b.x);
  const columns = curves.map((_, place) =>
    points.map((point) => (point.place === place ? drawn(point.y) : null)),
  );
  return [points.map((point) => point.x), ...columns];
}

/** @param {number} value */
function drawn(value) {
  return Number.isFinite(value) ? value : null;
}

/** @param {HTMLElement} box */
function sizeOf(box) {
  const legend = box.querySelector('.u-legend')?.clientHeight ?? 24;
  return {
    width: Math.max(box.clientWidth, 60),
    height: Math.max(box.clientHeight - legend, 60),
  };
}

/**
 * @param {uPlot} plot
 * @param {Props} props
 */
function drawSpans({ ctx: context, bbox, valToPos }, { spans = [] }) {
  for (const { from, to, colour } of spans) {
    const [left, right] = [from, to].map((x) =>
      Math.min(Math.max(valToPos(x, 'x', true), bbox.left), bbox.left + bbox.width),
    );
    context.fillStyle = `${colour}40`;
    context.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
  }
}

/**
 * @param {uPlot} plot
 * @param {Props} props
 * @param {string} ink
 */
function drawMarks({ ctx: context, bbox, valToPos }, { marks = [], at }, ink) {
  context.save();
  context.beginPath();
  context.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  context.clip();
  context.lineWidth = devicePixelRatio;
  for (const { value, colour } of marks) {
    const y = valToPos(value, 'y', true);
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(bbox.left + bbox.width - 14 * devicePixelRatio, y);
    context.lineTo(bbox.left + bbox.width, y);
    context.stroke();
  }
  if (Number.isFinite(at)) {
    const x = valToPos(at, 'x', true);
    context.strokeStyle = ink;
    context.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    context.beginPath();
    context.moveTo(x, bbox.top);
    context.lineTo(x, bbox.top + bbox.height);
    context.stroke();
  }
  context.restore();
}
