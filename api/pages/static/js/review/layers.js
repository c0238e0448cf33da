// How is a mask laid over an image? As a contour, a fill or heat, computed at the size at which it is shown.

import { HEAT } from "./palette.js";

export const MODES = ["contour", "fill", "heat"];
const MASK = [242, 166, 59];
const OUTLINE = 3; // pixels of contour, half of them dark so that it shows on any ground

/** The grey values of an image at a given size. */
function greys(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i += 1) values[i] = data[i * 4];
  return values;
}

function paint(canvas, width, height, colour) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  colour(picture.data);
  context.putImageData(picture, 0, 0);
}

function fill(values, data) {
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] >= 128) data.set([...MASK, 200], i * 4);
  }
}

function heat(values, data) {
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    data[i * 4] = HEAT[value * 3];
    data[i * 4 + 1] = HEAT[value * 3 + 1];
    data[i * 4 + 2] = HEAT[value * 3 + 2];
    data[i * 4 + 3] = 40 + value * 0.8;
  }
}

/** A bright line just inside the mask and a dark one just outside. */
function contour(values, width, height, data) {
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && values[y * width + x] >= 128;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const inside = at(x, y);
      let edge = false;
      for (let d = 1; d <= OUTLINE && !edge; d += 1) {
        edge = at(x - d, y) !== inside || at(x + d, y) !== inside || at(x, y - d) !== inside || at(x, y + d) !== inside;
      }
      if (edge) data.set(inside ? [...MASK, 255] : [0, 0, 0, 150], (y * width + x) * 4);
    }
  }
}

/**
 * Draw one mode into a canvas of `width` x `height` device pixels.
 *
 * @param {"contour"|"fill"|"heat"} mode
 * @param {{mask: CanvasImageSource, heatmap: CanvasImageSource}} sources
 */
export function draw(canvas, mode, sources, width, height) {
  const values = greys(mode === "heat" ? sources.heatmap : sources.mask, width, height);
  paint(canvas, width, height, (data) => {
    if (mode === "fill") fill(values, data);
    else if (mode === "heat") heat(values, data);
    else contour(values, width, height, data);
  });
}
