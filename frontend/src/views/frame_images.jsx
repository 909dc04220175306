import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { ImageCache } from '../data/image_cache.js';
import { frameExplanations } from '../data/series.js';
import { COLOUR_MAPS } from '../images/colour_maps.js';
import { CONTRASTS } from '../images/contrast.js';
import { detectorPicture, projectedPicture, storedPicture } from '../images/picture.js';
import { cartesianProjection, polarProjection, storedProjection } from '../images/projection.js';
import { phaseColours } from '../phase_colours.js';
import { PictureCanvas } from './picture_canvas.jsx';

const POLAR_AXES = /** @type {[string, string]} */ (['|q| (1/Å)', 'φ (deg)']);
const Q_AXES = /** @type {[string, string]} */ (['q_xy (1/Å)', 'q_z (1/Å)']);
const RAW_AXES = /** @type {[string, string]} */ (['column', 'row']);

/**
 * @typedef {import('../state.js').AppState} AppState
 * @typedef {import('../data/open_run.js').OpenRun} OpenRun
 * @typedef {import('../data/open_run.js').ImageStack} ImageStack
 * @typedef {{image: import('../data/image_cache.js').Image | null, dtype: string, absent: string,
 *   row?: number, stack?: ImageStack}} Shown
 */

/**
 * The images of the frame, with what was found in them.
 * @param {{state: AppState, run: OpenRun}} props
 */
export function FrameImages({ state, run }) {
  const frame = state.frame.value;
  const [large, setLarge] = useState('');
  const step = run.imageStep;
  const known = state.frames.value.length > 0;
  const row = known ? (frame % step ? null : frame / step) : undefined;
  const kept = `the run keeps every ${step}th image`;
  const polar = useImage(state, run, () => run.polarImages(), row, kept);
  const stored = useImage(state, run, () => run.qImages(), row, kept);
  useEffect(() => {
    state.polar.value = polar.image;
  }, [polar.image]);
  const raw = useImage(state, run, () => run.rawImages(), known ? frame : undefined, '', true);
  // While the next image is on its way, the boxes are those of the image that is seen.
  const seen = polar.row === undefined ? frame : polar.row * step;
  const grid = run.grid;
  const projections = useMemo(
    () => ({ polar: polarProjection(grid), q: cartesianProjection(grid) }),
    [run],
  );
  const contrast = /** @type {any} */ (state.contrast.value);
  const colours = state.colours.value;
  const pictures = useMemo(() => {
    if (!polar.image) return { polar: null, q: null };
    const picture = (/** @type {'polar' | 'q'} */ space) =>
      projectedPicture(
        /** @type {any} */ (polar.image), grid, projections[space], contrast, colours,
      );
    return { polar: picture('polar'), q: picture('q') };
  }, [polar.image, contrast, colours]);
  const onQ = useMemo(() => {
    const { image, stack: { qXY, qZ } = {} } = stored;
    const picture = image && qXY && qZ && storedPicture(image, contrast, colours);
    if (!picture) return { picture: pictures.q, projection: projections.q, title: 'q_xy, q_z' };
    const projection = storedProjection(image, qXY, qZ);
    return { picture, projection, title: 'q_xy, q_z (as stored)' };
  }, [stored.image, pictures.q, contrast, colours]);
  const detector = useMemo(
    () => raw.image && detectorPicture(raw.image, raw.dtype, contrast, colours),
    [raw.image, contrast, colours],
  );
  const overlays = useOverlays(state, run, seen);
  const common = {
    overlays,
    frame: seen,
    onCursor: (/** @type {any} */ place) => (state.cursor.value = place),
    onPeak: (/** @type {number | null} */ peak) => (state.peak.value = peak),
  };
  const shown = (/** @type {string} */ name) => !large || large === name;
  const sizing = (/** @type {string} */ name) => ({
    large: large === name,
    onEnlarge: () => setLarge(large === name ? '' : name),
  });
  return (
    <section class="images">
      <Toolbar state={state} />
      <div class={`pictures ${large ? 'one' : ''}`}>
        {shown('q') && (
          <PictureCanvas
            testid="q-image" title={onQ.title} picture={onQ.picture} absent={polar.absent} square
            projection={onQ.projection} axes={Q_AXES} {...common} {...sizing('q')}
          />
        )}
        {shown('polar') && (
          <PictureCanvas
            testid="polar-image" title="|q|, φ" picture={pictures.polar} absent={polar.absent}
            square={false} projection={projections.polar} axes={POLAR_AXES} {...common}
            {...sizing('polar')}
          />
        )}
        {shown('raw') && (
          <PictureCanvas
            testid="raw-image" title="detector" picture={detector} absent={raw.absent} square
            axes={RAW_AXES} {...sizing('raw')}
          />
        )}
      </div>
    </section>
  );
}

/** @param {{state: AppState}} props */
function Toolbar({ state }) {
  const toggles = /** @type {const} */ ([
    ['boxes', 'boxes'],
    ['labels', 'hkl'],
  ]);
  return (
    <div class="toolbar" role="toolbar" aria-label="Images">
      <Choice label="contrast" options={CONTRASTS} chosen={state.contrast} />
      <Choice label="colours" options={COLOUR_MAPS} chosen={state.colours} />
      {toggles.map(([name, label]) => (
        <label key={name}>
          <input
            type="checkbox"
            checked={state[name].value}
            onChange={() => (state[name].value = !state[name].value)}
          />
          {label}
        </label>
      ))}
    </div>
  );
}

/** @param {{label: string, options: string[], chosen: {value: string}}} props */
function Choice({ label, options, chosen }) {
  return (
    <label>
      {label}
      <select
        value={chosen.value}
        onChange={(event) => (chosen.value = /** @type {any} */ (event.target).value)}
      >
        {options.map((option) => (
          <option key={option}>{option}</option>
        ))}
      </select>
    </label>
  );
}

/**
 * The image of a row of a stack, fetched when it is needed; the last one stays until it is there.
 * @param {AppState} state
 * @param {OpenRun} run
 * @param {() => Promise<ImageStack | null>} find
 * @param {number | null | undefined} row null = there is no image of it, undefined = not known yet
 * @param {string} without why there may be none
 * @param {boolean} alone fetch no neighbours: large images
 * @returns {Shown}
 */
function useImage(state, run, find, row, without, alone = false) {
  const cache = useRef(/** @type {{run: OpenRun, images: ImageCache} | null} */ (null));
  const [shown, setShown] = useState(/** @type {Shown} */ ({ image: null, dtype: '', absent: '…' }));
  const version = cache.current?.run === run && shown.image ? 0 : run.version.value;

  const wanted = useRef({ run, row, version });
  const busy = useRef(false);

  useEffect(() => () => cache.current?.images.close(), []);
  useEffect(() => {
    wanted.current = { run, row, version };
    if (busy.current) return; // the one that loads goes on with what is wanted then
    const load = async () => {
      busy.current = true;
      for (let now = null; now !== wanted.current;) {
        now = wanted.current;
        await one(now).catch((/** @type {Error} */ { message }) => {
          setShown((old) => (old.image ? old : { image: null, dtype: '', absent: message }));
        });
      }
      busy.current = false;
    };
    void load();
  }, [run, row, version]);

  /** @param {{run: OpenRun, row: number | null | undefined}} now */
  const one = async ({ run: of, row: at }) => {
    const stale = () => wanted.current.run !== of;
    if (at === undefined) return;
    if (at === null) {
      setShown({ image: null, dtype: '', absent: without });
      return;
    }
    if (cache.current?.run !== of) {
      cache.current?.images.close();
      cache.current = null;
      const stack = await find();
      if (stale()) return;
      if (!stack) {
        setShown({ image: null, dtype: '', absent: 'not on this server' });
        return;
      }
      cache.current = { run: of, images: new ImageCache(state.api, stack) };
    }
    const { images } = cache.current;
    const stored = Math.floor((state.frames.peek().at(-1) ?? 0) / of.imageStep) + 1;
    const image = await images.get(at, stored, alone);
    if (stale()) return;
    setShown({ image, dtype: images.stack.dtype, absent: '', row: at, stack: images.stack });
  };
  return shown;
}

/**
 * @param {AppState} state
 * @param {OpenRun} run
 * @param {number} frame
 * @returns {import('../images/overlays.js').Overlays}
 */
function useOverlays(state, run, frame) {
  const version = run.version.value;
  const colour = useMemo(() => phaseColours(run.structures.map((one) => one.slug)), [run]);
  const peaks = useMemo(() => {
    const known = frameExplanations(run.tables.matches, run.tables.match_peaks, frame);
    return run.tables.peaks.rows(frame).map((row) => {
      const found = known.get(row.peak);
      return /** @type {any} */ ({ ...row, phase: found?.phase ?? '', hkl: found?.hkl ?? [] });
    });
  }, [run, frame, version]);
  const chosen = state.lines.value;
  return {
    peaks,
    selected: state.peak.value,
    boxes: state.boxes.value,
    labels: state.labels.value,
    lines: run.structures
      .filter((one) => chosen.has(one.slug))
      .map((one) => ({ colour: colour(one.slug), name: one.name, q: one.q })),
    cursor: state.cursor.value,
    colour,
    grid: run.grid,
  };
}
