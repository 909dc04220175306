/** Sizes of what is drawn on canvases: they follow the page's font, which grows on large screens. */

const FONT_PX = 14;

/** How much larger than usual the page's text is. */
export function textScale() {
  return parseFloat(getComputedStyle(document.documentElement).fontSize) / FONT_PX || 1;
}

/** Canvas pixels of one CSS pixel at the usual font size. */
export function canvasUnit() {
  return (window.devicePixelRatio || 1) * textScale();
}
