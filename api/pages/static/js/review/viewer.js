// What does the reviewer look at? The picture, blurred until Space is held, under a mask in one of three modes.

import { bitmap, blob } from "../http.js";
import { MODES, draw } from "./layers.js";

const SHARPEST = 2; // device pixels a CSS pixel; more costs time and shows nothing

export class Viewer {
  /** @param {HTMLElement} stage holds `.frame` with `img.picture`, `canvas.layer`, `.region` */
  constructor(stage, settings, { onExposed }) {
    this.stage = stage;
    this.frame = stage.querySelector(".frame");
    this.picture = stage.querySelector("img.picture");
    this.layer = stage.querySelector("canvas.layer");
    this.box = stage.querySelector(".region");
    this.missing = stage.querySelector(".missing");
    this.settings = settings;
    this.onExposed = onExposed;
    this.mode = MODES.includes(settings.mask_mode) ? settings.mask_mode : "contour";
    this.opacity = settings.mask_opacity ?? 0.6;
    this.region = -1;
    this.sources = null;
    this.revealed = null;
    new ResizeObserver(() => this.fit()).observe(stage);
    this.frame.classList.toggle("grey", settings.greyscale);
  }

  /** Show one item's picture; resolves when picture and mask are on the screen, or what is missing is said. */
  async show({ review, picture, bitmaps }) {
    this.reveal(false);
    this.review = review;
    this.region = -1;
    this.sources = null;
    const { width, height } = review.localization;
    this.size = { width: width ?? 4, height: height ?? 3 };
    this.stage.dataset.state = "loading";
    this._place(new Image());
    this.fit();
    if (picture === null) return this._miss("The platform erased this image.");
    try {
      const [shown, loaded] = await Promise.all([picture, bitmaps]);
      if (this.review !== review) return;
      this._place(shown, review.sentence);
      this.sources = loaded;
      this.stage.dataset.state = "shown";
      this.fit();
      if (!this.settings.blur) this.reveal(true);
    } catch (error) {
      if (this.review === review) this._miss(`This image cannot be shown. ${error.message ?? ""}`);
    }
  }

  /** Put a picture that is decoded already where the last one was, so that nothing is decoded at this moment. */
  _place(picture, alt = "") {
    picture.className = "picture";
    picture.alt = alt;
    this.picture.replaceWith(picture);
    if (this.picture.src.startsWith("blob:")) URL.revokeObjectURL(this.picture.src);
    this.picture = picture;
  }

  _miss(text) {
    this.stage.dataset.state = "missing";
    this.missing.textContent = text;
    this.redraw();
  }

  /** Scale the frame into the stage, never above native pixels times two, and redraw the mask at that size. */
  fit() {
    if (!this.size) return;
    const { clientWidth, clientHeight } = this.stage;
    const scale = Math.min(clientWidth / this.size.width, clientHeight / this.size.height, 2);
    this.frame.style.width = `${Math.max(1, Math.round(this.size.width * scale))}px`;
    this.frame.style.height = `${Math.max(1, Math.round(this.size.height * scale))}px`;
    this.redraw();
  }

  redraw() {
    this.layer.hidden = this.sources === null;
    if (this.sources === null) return;
    const sharp = Math.min(devicePixelRatio || 1, SHARPEST);
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight].map((n) => Math.max(1, Math.round(n * sharp)));
    draw(this.layer, this.mode, this.sources, width, height);
    this.layer.style.opacity = this.mode === "contour" ? 1 : this.opacity;
    this.stage.dataset.mode = this.mode;
    for (const button of document.querySelectorAll("button[data-mode]")) button.setAttribute("aria-pressed", String(button.dataset.mode === this.mode));
    this._placeRegion();
  }

  setMode(mode) {
    this.mode = mode;
    this.redraw();
  }

  changeOpacity(by) {
    this.opacity = Math.min(1, Math.max(0.1, Math.round((this.opacity + by) * 10) / 10));
    if (this.mode === "contour") this.mode = "fill";
    this.redraw();
  }

  hideMask(hidden) {
    this.layer.classList.toggle("held-hidden", hidden);
  }

  /** Unblur while held; the seconds on screen are counted and reported. */
  reveal(shown) {
    if (!shown && this.settings.blur === false && this.sources !== null && this.review) return;
    if (shown === (this.revealed !== null)) return;
    if (shown) {
      this.revealed = performance.now();
    } else {
      this.onExposed(this.review, (performance.now() - this.revealed) / 1000);
      this.revealed = null;
    }
    this.frame.classList.toggle("revealed", shown);
  }

  /** Report what was seen so far and stop counting; before the next item or when the page goes away. */
  close() {
    if (this.revealed === null) return;
    this.onExposed(this.review, (performance.now() - this.revealed) / 1000);
    this.revealed = null;
    this.frame.classList.remove("revealed");
  }

  /** Walk the regions; returns the one that is marked now, or null with none. */
  walk(step) {
    const regions = this.review?.localization?.regions ?? [];
    if (regions.length === 0) return null;
    this.region = (this.region + step + regions.length + (this.region < 0 && step < 0 ? 1 : 0)) % regions.length;
    this._placeRegion();
    return { index: this.region, count: regions.length, ...regions[this.region] };
  }

  _placeRegion() {
    const region = this.review?.localization?.regions?.[this.region];
    this.box.hidden = !region;
    if (!region) return;
    const [x, y, width, height] = region.bbox;
    const percent = (value, of) => `${(100 * value) / of}%`;
    this.box.style.left = percent(x, this.size.width);
    this.box.style.top = percent(y, this.size.height);
    this.box.style.width = percent(width, this.size.width);
    this.box.style.height = percent(height, this.size.height);
  }
}

/** The image of a review, decoded; fetched ahead of its showing. */
export async function fetchPicture(review) {
  const picture = new Image();
  picture.src = URL.createObjectURL(await blob(review.links.image));
  await picture.decode();
  return picture;
}

/** Mask and heat map of a review as pixels, fetched ahead of their showing. */
export async function fetchBitmaps(review) {
  const [mask, heatmap] = await Promise.all([bitmap(review.links.mask), bitmap(review.links.heatmap)]);
  return { mask, heatmap };
}
