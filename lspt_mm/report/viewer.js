// Flip through images, blocks and heads; attention is drawn over the image.
(function () {
  'use strict';
  const data = JSON.parse(document.getElementById('viewer-data').textContent);
  const box = document.getElementById('viewer');
  if (!box || !data.images.length) return;

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const colours = bytes(data.colours);
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const select = document.getElementById('pick-image');
  const block = document.getElementById('pick-block');
  const head = document.getElementById('pick-head');
  const strength = document.getElementById('strength');
  const rows = document.getElementById('rows');

  data.images.forEach((image, i) => select.add(new Option(image.name, i)));
  head.add(new Option('mean', 0));
  for (let h = 1; h <= data.heads; h++) head.add(new Option('head ' + h, h));
  block.max = data.blocks;
  block.value = data.blocks;

  const cached = new Map();
  function picture(url) {
    if (!cached.has(url)) {
      const image = new Image();
      cached.set(url, new Promise((done) => { image.onload = () => done(image); }));
      image.src = url;
    }
    return cached.get(url);
  }

  function heat(of, number) {
    const size = of.h * of.w;
    const values = (of.values = of.values || bytes(of.maps)).subarray(number * size, (number + 1) * size);
    const canvas = document.createElement('canvas');
    canvas.width = of.w;
    canvas.height = of.h;
    const context = canvas.getContext('2d');
    const pixels = context.createImageData(of.w, of.h);
    values.forEach((value, i) => {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = colours[3 * value + c];
      pixels.data[4 * i + 3] = 255;
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  function tile(column, caption) {
    const node = make('div', 'tile');
    column.append(node);
    node.append(make('div', 'cap', caption));
    return node;
  }

  function column(title) {
    const node = make('div', 'column');
    node.dataset.run = title;
    node.append(make('h3', '', title));
    rows.append(node);
    return node;
  }

  function still(of, url, caption) {
    const image = make('img');
    image.src = url;
    image.alt = caption;
    of.append(image);
  }

  function label(of, caption, value) {
    const node = tile(of, caption);
    if (!value) node.append(make('div', 'text dim', 'none'));
    else if (value.text !== undefined) node.append(make('div', 'text', value.text));
    else still(node, value.picture, caption);
  }

  async function attention(of, caption, pixels, value, turn) {
    const node = tile(of, caption);
    if (!value) { node.append(make('div', 'text dim', 'none in this block')); return; }
    const number = Math.min(Number(head.value), value.peak.length - 1);
    node.firstChild.textContent = caption + ' · peak ' + value.peak[number].toFixed(1) + '×';
    const canvas = make('canvas');
    node.append(canvas);
    const image = await picture(pixels);
    if (turn !== current) return;
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    context.globalAlpha = Number(strength.value);
    context.imageSmoothingEnabled = true;
    context.drawImage(heat(value, number), 0, 0, canvas.width, canvas.height);
  }

  function legend(image) {
    const node = document.getElementById('legend');
    node.replaceChildren();
    const all = new Map();
    [image.truth, ...image.runs.map((run) => run && run.predicted)].forEach((value) => {
      ((value && value.classes) || []).forEach(([name, colour]) => all.set(name, colour));
    });
    [...all].sort().forEach(([name, colour]) => {
      const entry = make('span');
      const swatch = make('span', 'swatch');
      swatch.style.background = colour;
      entry.append(swatch, document.createTextNode(name));
      node.append(entry);
    });
  }

  let current = 0;
  function show() {
    const turn = ++current;
    const image = data.images[Number(select.value)];
    const number = Number(block.value);
    document.getElementById('block-number').value = number;
    rows.replaceChildren();
    const given = column('given');
    still(tile(given, 'input'), image.pixels, 'input');
    label(given, 'truth', image.truth);
    data.runs.forEach((name, i) => {
      const one = column(name);
      const found = image.runs[i];
      if (!found) { one.append(make('div', 'text dim', 'not among its data')); return; }
      label(one, 'prediction', found.predicted);
      attention(one, 'class token', image.pixels, found.cls[number - 1], turn);
      attention(one, 'prompts', image.pixels, found.prompts[number - 1], turn);
    });
    legend(image);
  }

  const step = (control, by) => {
    const last = control === select ? data.images.length - 1 : Number(control.max);
    const first = control === select ? 0 : 1;
    control.value = Math.min(last, Math.max(first, Number(control.value) + by));
    show();
  };
  [select, head].forEach((control) => control.addEventListener('change', show));
  [block, strength].forEach((control) => control.addEventListener('input', show));
  document.getElementById('previous').addEventListener('click', () => step(select, -1));
  document.getElementById('next').addEventListener('click', () => step(select, 1));
  box.addEventListener('keydown', (event) => {
    if (event.target.tagName === 'SELECT' || event.target.tagName === 'INPUT') return;
    const by = { ArrowLeft: [select, -1], ArrowRight: [select, 1], ArrowDown: [block, -1], ArrowUp: [block, 1] }[event.key];
    if (by) { step(...by); event.preventDefault(); }
  });
  show();
})();
