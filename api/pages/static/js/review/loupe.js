// What do the pixels themselves say? Image, mask and error levels side by side at native size, moving as one.

const STEP = 40; // native pixels an arrow key moves

export class Loupe {
  /** @param {HTMLElement} root holds three `canvas[data-of]`: image, mask, ela */
  constructor(root, viewer) {
    this.root = root;
    this.viewer = viewer;
    this.canvases = [...root.querySelectorAll("canvas[data-of]")];
    this.centre = { x: 0, y: 0 };
    viewer.frame.addEventListener("pointermove", (event) => this._follow(event));
    root.addEventListener("keydown", (event) => this._move(event));
  }

  get open() {
    return !this.root.hidden;
  }

  /** Open at a region, or in the middle; looking at pixels is looking, so it counts as exposure. */
  async toggle(region) {
    if (this.open) return this.close();
    const { review, size, sources } = this.viewer;
    if (!review || !sources) return undefined;
    const [x, y, width, height] = region?.bbox ?? [0, 0, size.width, size.height];
    this.centre = { x: x + width / 2, y: y + height / 2 };
    this.root.hidden = false;
    this.root.focus();
    this.viewer.reveal(true);
    this.sources = { image: this.viewer.picture, mask: sources.mask, ela: null };
    this.draw();
    const ela = new Image();
    ela.src = review.links.ela;
    await ela.decode();
    this.sources.ela = ela;
    this.draw();
    return undefined;
  }

  close() {
    if (!this.open) return;
    this.root.hidden = true;
    this.viewer.reveal(false);
  }

  draw() {
    for (const canvas of this.canvases) {
      const source = this.sources[canvas.dataset.of];
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      canvas.width = width;
      canvas.height = height;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      if (!source) continue;
      const { size } = this.viewer;
      const scaleX = (source.naturalWidth ?? source.width) / size.width;
      const scaleY = (source.naturalHeight ?? source.height) / size.height;
      const left = this.centre.x - width / 2;
      const top = this.centre.y - height / 2;
      context.drawImage(source, left * scaleX, top * scaleY, width * scaleX, height * scaleY, 0, 0, width, height);
    }
  }

  _follow(event) {
    if (!this.open) return;
    const box = this.viewer.frame.getBoundingClientRect();
    this.centre.x = ((event.clientX - box.left) / box.width) * this.viewer.size.width;
    this.centre.y = ((event.clientY - box.top) / box.height) * this.viewer.size.height;
    this.draw();
  }

  _move(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") this.close();
    if (!by) return;
    event.preventDefault();
    this.centre.x += by[0] * STEP;
    this.centre.y += by[1] * STEP;
    this.draw();
  }
}
