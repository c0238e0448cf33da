// How is a number between 0 and 1 coloured? Dark violet over magenta to yellow: its lightness alone carries the order, so
// it reads the same with every kind of colour blindness and in greyscale.

const STOPS = [
  [0.0, 13, 8, 60],
  [0.25, 98, 12, 140],
  [0.5, 190, 48, 110],
  [0.75, 246, 124, 50],
  [1.0, 250, 238, 110],
];

/** 256 RGB triples. */
export const HEAT = (() => {
  const table = new Uint8ClampedArray(256 * 3);
  for (let value = 0; value < 256; value += 1) {
    const x = value / 255;
    const upper = Math.max(1, STOPS.findIndex(([at]) => at >= x));
    const [low, high] = [STOPS[upper - 1], STOPS[upper]];
    const t = (x - low[0]) / (high[0] - low[0]);
    for (let channel = 1; channel <= 3; channel += 1) table[value * 3 + channel - 1] = low[channel] + t * (high[channel] - low[channel]);
  }
  return table;
})();
