// How does a reviewer correct a mask? With a brush and an eraser on the mask itself, at the image's own size, saved as PNG.

export class Brush {
  /** @param {HTMLCanvasElement} canvas lies over the picture, hidden until a tool is chosen */
  constructor(canvas, viewer) {
    this.canvas = canvas;
    this.viewer = viewer;
    this.tool = null;
    this.radius = 0.02; // of the longer side
    this.changed = false;
    canvas.addEventListener("pointerdown", (event) => this._start(event));
    canvas.addEventListener("pointermove", (event) => this._stroke(event));
    canvas.addEventListener("pointerup", () => this._end());
    canvas.addEventListener("pointercancel", () => this._end());
  }

  /** Choose "brush" or "eraser"; the same again puts the tool away. */
  choose(tool) {
    this.tool = this.tool === tool ? null : tool;
    if (this.tool && !this.mask) this._copyMask();
    this.canvas.hidden = this.tool === null;
    this.viewer.stage.dataset.tool = this.tool ?? "";
    return this.tool;
  }

  reset() {
    this.tool = null;
    this.mask = null;
    this.changed = false;
    this.canvas.hidden = true;
    this.viewer.stage.dataset.tool = "";
  }

  /** The corrected mask as a PNG of the image's size, or null where nothing was changed. */
  async png() {
    return this.changed ? this.mask.convertToBlob({ type: "image/png" }) : null;
  }

  _copyMask() {
    const { width, height } = this.viewer.size;
    this.mask = new OffscreenCanvas(width, height);
    this.context = this.mask.getContext("2d", { willReadFrequently: true });
    this.context.fillStyle = "black";
    this.context.fillRect(0, 0, width, height);
    this.context.drawImage(this.viewer.sources.mask, 0, 0, width, height);
    this.context.lineCap = "round";
    this.context.lineJoin = "round";
  }

  _point(event) {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.viewer.size;
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  }

  _start(event) {
    if (!this.tool) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this._point(event);
    this._stroke(event);
  }

  _stroke(event) {
    if (!this.tool || !this.last) return;
    const point = this._point(event);
    const { width, height } = this.viewer.size;
    this.context.strokeStyle = this.tool === "brush" ? "white" : "black";
    this.context.lineWidth = Math.max(2, 2 * this.radius * Math.max(width, height));
    this.context.beginPath();
    this.context.moveTo(...this.last);
    this.context.lineTo(...point);
    this.context.stroke();
    this.last = point;
    this.changed = true;
    this._show();
  }

  _end() {
    this.last = null;
  }

  _show() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      if (this.mask) {
        this.viewer.sources = { ...this.viewer.sources, mask: this.mask };
        this.viewer.redraw();
      }
    });
  }
}
