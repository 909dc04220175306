import { useEffect, useRef, useState } from 'preact/hooks';

import { drawOverlays, peakAt } from '../images/overlays.js';
import { drawTicks } from '../images/ticks.js';
import { panned, transform, whole, zoomed } from '../images/viewport.js';
import { canvasUnit } from '../unit.js';

/**
 * @typedef {import('../images/picture.js').Picture} Picture
 * @typedef {object} Props
 * @property {string} testid
 * @property {string} title
 * @property {Picture | null} picture
 * @property {string} absent what is said where there is no picture
 * @property {boolean} square whether pixels keep their shape
 * @property {import('../images/projection.js').Projection} [projection]
 * @property {import('../images/overlays.js').Overlays} [overlays]
 * @property {[string, string]} axes
 * @property {(place: import('../images/projection.js').Place | null) => void} [onCursor]
 * @property {(peak: number | null) => void} [onPeak]
 * @property {number} [frame] the frame that the picture shows
 * @property {boolean} large
 * @property {() => void} onEnlarge
 */

/**
 * One picture with zoom (wheel, + and -), pan (drag) and cursor; a click selects a peak.
 * @param {Props} props
 */
export function PictureCanvas(props) {
  const { testid, title, picture, absent, square, projection, overlays, axes } = props;
  const canvas = /** @type {{current: HTMLCanvasElement}} */ (/** @type {any} */ (useRef(null)));
  const [size, setSize] = useState({ width: 1, height: 1 });
  const [view, setView] = useState(/** @type {import('../images/viewport.js').Viewport?} */ (null));
  const [reading, setReading] = useState('');
  const drag = useRef(/** @type {{x: number, y: number, moved: boolean} | null} */ (null));

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const ratio = window.devicePixelRatio || 1;
      const { width, height } = entry.contentRect;
      setSize({
        width: Math.max(1, Math.round(width * ratio)),
        height: Math.max(1, Math.round(height * ratio)),
      });
    });
    observer.observe(canvas.current);
    return () => observer.disconnect();
  }, []);

  const shown = picture && (view ?? whole(picture));
  const placed = picture && shown && transform(shown, picture, size, square);
  const toCanvas =
    placed && projection
      ? (/** @type {import('../images/projection.js').Place} */ place) =>
          placed.toCanvas(projection.toPixel(place))
      : null;

  useEffect(() => {
    const context = canvas.current.getContext('2d');
    if (!context) return;
    context.clearRect(0, 0, size.width, size.height);
    if (!picture || !placed) return;
    context.imageSmoothingEnabled = placed.sx < 1;
    const { left, top, sx, sy } = placed;
    context.drawImage(picture.canvas, left, top, picture.width * sx, picture.height * sy);
    const unit = canvasUnit();
    if (projection) drawTicks(context, placed, projection.scales, size, unit);
    if (toCanvas && overlays) drawOverlays(context, toCanvas, overlays, unit);
  });

  /** @param {PointerEvent | MouseEvent} event @returns {[number, number]} */
  const at = (event) => {
    const frame = canvas.current.getBoundingClientRect();
    const ratio = size.width / Math.max(frame.width, 1);
    return [(event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio];
  };
  /** @param {PointerEvent} event */
  const move = (event) => {
    if (!picture || !placed || !shown) return;
    const [x, y] = at(event);
    if (drag.current && event.buttons & 1) {
      const [dx, dy] = [x - drag.current.x, y - drag.current.y];
      if (drag.current.moved || Math.hypot(dx, dy) > 4) {
        setView(panned(shown, dx / placed.sx, dy / placed.sy, picture));
        drag.current = { x, y, moved: true };
      }
      return;
    }
    const [px, py] = placed.toPicture(x, y);
    const inside = px >= 0 && py >= 0 && px < picture.width && py < picture.height;
    const place = inside && projection ? projection.toPlace(px, py) : null;
    setReading(inside ? reads(place, px, py, picture.value(px, py)) : '');
    props.onCursor?.(place);
  };
  /** @param {PointerEvent} event */
  const up = (event) => {
    const still = drag.current && !drag.current.moved;
    drag.current = null;
    if (!still || !toCanvas || !overlays || !props.onPeak) return;
    const found = peakAt(overlays.peaks, at(event), toCanvas, overlays.grid, 12 * canvasUnit());
    props.onPeak(found?.peak ?? null);
  };
  /** @param {WheelEvent} event */
  const wheel = (event) => {
    if (!picture || !placed || !shown) return;
    event.preventDefault();
    const factor = Math.exp(-event.deltaY / 400);
    setView(zoomed(shown, factor, placed.toPicture(...at(event)), picture));
  };
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    const factor = { '+': 1.5, '=': 1.5, '-': 1 / 1.5 }[event.key];
    if (!picture || !shown) return;
    if (factor) setView(zoomed(shown, factor, [shown.x, shown.y], picture));
    else if (event.key === '0') setView(null);
    else return;
    event.stopPropagation();
  };

  return (
    <figure class={`picture ${props.large ? 'large' : ''}`}>
      <figcaption>
        <span>{title}</span>
        <span class="reading">{reading}</span>
        <button
          class="quiet"
          title={props.large ? 'Show all images' : 'Show this image alone'}
          onClick={props.onEnlarge}
        >
          {props.large ? '▫' : '□'}
        </button>
      </figcaption>
      <div class="frame">
        <canvas
          ref={canvas}
          data-testid={testid}
          data-ready={picture ? 'true' : 'false'}
          data-frame={props.frame}
          tabIndex={0}
          aria-label={`${title}, ${axes[0]} to the right, ${axes[1]} upwards; + and - zoom`}
          width={size.width}
          height={size.height}
          onPointerMove={move}
          onPointerDown={(event) => {
            const [x, y] = at(event);
            drag.current = { x, y, moved: false };
          }}
          onPointerUp={up}
          onPointerLeave={() => {
            setReading('');
            props.onCursor?.(null);
          }}
          onWheel={wheel}
          onDblClick={() => setView(null)}
          onKeyDown={key}
        />
        {!picture && <p class="absent">{absent}</p>}
        <span class="axis x">{axes[0]}</span>
        <span class="axis y">{axes[1]}</span>
      </div>
    </figure>
  );
}

/**
 * @param {import('../images/projection.js').Place | null} place
 * @param {number} x
 * @param {number} y
 * @param {number} value
 */
function reads(place, x, y, value) {
  const counts = Number.isFinite(value) ? `${Number(value.toPrecision(4))} counts` : 'no data';
  if (!place) return `row ${Math.floor(y)}, column ${Math.floor(x)}: ${counts}`;
  const radians = (place.phi * Math.PI) / 180;
  const [qXY, qZ] = [place.q * Math.cos(radians), place.q * Math.sin(radians)];
  return (
    `|q| ${place.q.toFixed(3)}  φ ${place.phi.toFixed(1)}°  ` +
    `q_xy ${qXY.toFixed(3)}  q_z ${qZ.toFixed(3)}  ${counts}`
  );
}
