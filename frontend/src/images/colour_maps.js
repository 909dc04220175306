/** Perceptually uniform colour maps, 33 colours each, sampled from Matplotlib's (CC0). */

/** @type {Record<string, string>} */
const COLOURS = {
  inferno:
    '0000040403120b0724150b37210c4a2f0a5b3d09654a0c6b57106e64156e71196e7d1e6d8a226a972766' +
    'a32c61b0315bbc3754c73e4cd24644db503be45a31eb6628f1731df68013f98e09fb9d07fcac11fbbc21' +
    'f9cb35f5db4cf2ea69f3f68afcffa4',
  viridis:
    '440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e' +
    '26828e23898e21918c1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83e' +
    'addc30c2df23d8e219ece51bfde725',
  cividis:
    '00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d5a5f6e61656f686a71' +
    '6f70737676767d7c788482798c8878938e789b9476a39a74aba072b4a76fbcae6cc4b468cdbb63d5c25e' +
    'dec958e7d150f0d846f9e03afee838',
  magma:
    '0000040303120a0822130d341d114729115a36106b440f7651127c5d177f6a1c81762181832681902a81' +
    '9c2e7faa337db73779c43c75d0416fdc4869e75263ef5d5ef56b5cf9795dfc8961fd9869fea772feb67c' +
    'fec488fed395fde2a3fcf0b2fcfdbf',
  gray:
    '000000080808101010181818202020282828303030383838404040484848505050585858606060686868' +
    '707070787878808080888888909090989898a0a0a0a8a8a8b0b0b0b8b8b8c0c0c0c8c8c8d0d0d0d8d8d8' +
    'e0e0e0e8e8e8f0f0f0f8f8f8ffffff',
};

export const COLOUR_MAPS = Object.keys(COLOURS);

const LEVELS = 256;

/**
 * Colours of the levels 0…255 as pixels of an ImageData, and one more that stands for no data.
 * @param {string} name
 * @param {boolean} reversed
 * @returns {Uint32Array} 257 values 0xAABBGGRR
 */
export function palette(name, reversed = false) {
  const hex = COLOURS[name] ?? COLOURS.inferno;
  const stops = hex.length / 6 - 1;
  const colours = new Uint32Array(LEVELS + 1);
  for (let level = 0; level < LEVELS; level++) {
    const place = ((reversed ? LEVELS - 1 - level : level) / (LEVELS - 1)) * stops;
    const left = Math.min(Math.floor(place), stops - 1);
    const [r, g, b] = [0, 1, 2].map((channel) => {
      const [low, high] = [left, left + 1].map((stop) =>
        parseInt(hex.slice(stop * 6 + channel * 2, stop * 6 + channel * 2 + 2), 16),
      );
      return Math.round(low + (high - low) * (place - left));
    });
    colours[level] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  colours[LEVELS] = 0; // transparent
  return colours;
}
