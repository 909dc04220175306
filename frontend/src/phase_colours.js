/** Colours of phases, told apart by people with any colour vision (after Okabe and Ito). */

const COLOURS = [
  '#56b4e9', '#1fb58f', '#f0e442', '#d68fb8', '#8f9bff', '#e0662a', '#b0b0b0', '#c2e07c',
];

export const UNEXPLAINED = '#ff9d2e';
export const SELECTED = '#ff4d4d';

/**
 * @param {string[]} slugs of all candidates
 * @returns {(slug: string) => string}
 */
export function phaseColours(slugs) {
  const sorted = [...slugs].sort();
  return (slug) => {
    const place = sorted.indexOf(slug);
    return place < 0 ? UNEXPLAINED : COLOURS[place % COLOURS.length];
  };
}
