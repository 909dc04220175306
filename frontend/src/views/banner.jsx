import { problems } from '../data/problems.js';

/**
 * What is wrong, in plain words, and what to do.
 * @param {{state: import('../state.js').AppState}} props
 */
export function Banner({ state }) {
  const found = problems(state);
  if (!found.length) return null;
  return (
    <div class="banner" role="alert">
      {found.map(({ what, remedy }) => (
        <p key={what}>
          <strong>{what}</strong> {remedy}
        </p>
      ))}
    </div>
  );
}
