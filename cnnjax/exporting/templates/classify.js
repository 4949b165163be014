// Prepares an image as the training prepared its images, and shows what the network predicts of it.
// An image here is {width, height, channels, data}: 8 bits a value, channels last.

const element = (id) => document.getElementById(id);
const settings = JSON.parse(element("settings").textContent);
const [rows, columns, channels] = settings.image_shape;

// --- preparation: as `run.prepare` -----------------------------------------------------------------------------------

// Weights of the input values for each output value of a triangle filter, which is widened where the image shrinks. They are
// fixed-point numbers of 22 bits and each pass is rounded to 8 bits, as in Pillow, so that results are the same. (Pillow 13 does
// the vertical pass first where images shrink in height, which differs by a level at most.)
const BITS = 22;

function weightsAlong(size, target) {
  const scale = size / target, width = Math.max(scale, 1), inverse = 1 / width, weights = [];
  for (let place = 0; place < target; place++) {
    const center = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(center - width + 0.5), 0);
    const last = Math.min(Math.trunc(center + width + 0.5), size);
    const own = [];
    for (let at = first; at < last; at++) own.push(Math.max(1 - Math.abs((at - center + 0.5) * inverse), 0));
    const total = own.reduce((sum, value) => sum + value, 0);
    weights.push({ first, values: own.map((value) => Math.trunc(0.5 + (value / total) * 2 ** BITS)) });
  }
  return weights;
}

// The part of an image, resized to `width` and `height`, that begins at `left` and `top`.
function resampled(image, width, height, part) {
  const acrossAll = width === image.width ? null : weightsAlong(image.width, width);
  const downAll = height === image.height ? null : weightsAlong(image.height, height);
  const across = pass(image.data, image.width, image.height, image.channels, acrossAll, part.left, part.width, false);
  const data = pass(across, part.width, image.height, image.channels, downAll, part.top, part.height, true);
  return { width: part.width, height: part.height, channels: image.channels, data };
}

function pass(data, width, height, count, weights, begin, length, down) {
  const [newWidth, newHeight] = down ? [width, length] : [length, height];
  const result = new Uint8ClampedArray(newWidth * newHeight * count);
  const step = (down ? width : 1) * count;
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const place = begin + (down ? y : x);
      const { first, values } = weights ? weights[place] : { first: place, values: [2 ** BITS] };
      const source = (down ? first * width + x : y * width + first) * count;
      for (let channel = 0; channel < count; channel++) {
        let sum = 2 ** (BITS - 1);
        for (let k = 0; k < values.length; k++) sum += data[source + channel + k * step] * values[k];
        result[(y * newWidth + x) * count + channel] = Math.floor(sum / 2 ** BITS);
      }
    }
  }
  return result;
}

// Half a pixel goes to the even side.
function halved(free) {
  const half = free / 2, below = Math.floor(half);
  return half === below ? half : below + (below % 2 ? 1 : 0);
}

// Resized to cover a height and width, and the centre cut out; or to fit inside, with zeros around it; or stretched.
function resized(image, [height, width], mode) {
  if (mode === "fit") {
    const scale = Math.min(width / image.width, height / image.height);
    const rounded = (length, most) => Math.min(most, Math.max(1, halved(2 * length * scale)));
    const [across, down] = [rounded(image.width, width), rounded(image.height, height)];
    const whole = { left: 0, top: 0, width: across, height: down };
    return padded(resampled(image, across, down, whole), [height, width]);
  }
  let covering = [width, height];
  if (mode === "crop") {
    const wide = image.width * height >= image.height * width;
    covering = wide
      ? [Math.max(width, Math.floor((height * image.width) / image.height)), height]
      : [width, Math.max(height, Math.floor((width * image.height) / image.width))];
  }
  const part = { left: halved(covering[0] - width), top: halved(covering[1] - height), width, height };
  return resampled(image, ...covering, part);
}

function cropped(image, [height, width]) {
  if (height > image.height || width > image.width) throw new Error(`the image is smaller than ${width} × ${height}`);
  const part = { left: halved(image.width - width), top: halved(image.height - height), width, height };
  return resampled(image, image.width, image.height, part);
}

function padded(image, [height, width], value = 0) {
  const above = Math.floor((height - image.height) / 2), left = Math.floor((width - image.width) / 2);
  if (above < 0 || left < 0) throw new Error(`the image is larger than ${width} × ${height}`);
  const data = new Uint8ClampedArray(height * width * image.channels).fill(value);
  for (let y = 0; y < image.height; y++) {
    const row = image.data.subarray(y * image.width * image.channels, (y + 1) * image.width * image.channels);
    data.set(row, ((y + above) * width + left) * image.channels);
  }
  return { width, height, channels: image.channels, data };
}

// Grey by ITU-R BT.601's weights in 16 bits, as Pillow; colour from grey by repetition.
function inChannels(image) {
  if (image.channels === channels) return image;
  const pixels = image.width * image.height, data = new Uint8ClampedArray(pixels * channels);
  for (let place = 0; place < pixels; place++) {
    if (channels === 1) {
      const [red, green, blue] = image.data.subarray(place * 3, place * 3 + 3);
      data[place] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else data.fill(image.data[place], place * 3, place * 3 + 3);
  }
  return { ...image, channels, data };
}

const same = (size, other) => size[0] === other[0] && size[1] === other[1];

function preparedSize(size) {
  if (settings.crop) {
    if (settings.crop[0] > size[0] || settings.crop[1] > size[1]) return [0, 0];
    size = settings.crop;
  }
  if (settings.pad && (settings.pad[0] < size[0] || settings.pad[1] < size[1])) return [0, 0];
  return settings.pad ?? size;
}

function prepared(image) {
  const given = [image.height, image.width], network = [rows, columns];
  let remark = "";
  if (!settings.resize) {
    const usual = !settings.raw || same(given, settings.raw) || same(given, network);
    if (!usual || !same(preparedSize(given), network)) {
      const target = settings.raw ?? network;
      image = resized(image, target, "crop");
      remark = `resized to ${target[1]} × ${target[0]} by the shorter side and the central crop`;
    }
  }
  image = inChannels(image);
  if (settings.resize) image = resized(image, settings.resize, settings.resize_mode);
  if (settings.crop) image = cropped(image, settings.crop);
  if (settings.pad) image = padded(image, settings.pad);
  return { image, remark };
}

// The pixels of a file, upright; what is transparent is shown on white.
async function decoded(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const data = new Uint8ClampedArray(bitmap.width * bitmap.height * 3);
  for (let place = 0; place < bitmap.width * bitmap.height; place++) data.set(pixels.subarray(place * 4, place * 4 + 3), place * 3);
  return { width: bitmap.width, height: bitmap.height, channels: 3, data };
}

// --- drawings: ink in a box of its own size and place, as the data set has it ----------------------------------------

// The drawing as an image of the data set's kind, or null where nothing is drawn.
function drawn(board) {
  const { width, height } = board, pixels = board.getContext("2d").getImageData(0, 0, width, height).data;
  const ink = new Uint8ClampedArray(width * height).map((_, place) => pixels[place * 4 + 3]);
  let [left, top, right, bottom] = [width, height, -1, -1];
  ink.forEach((value, place) => {
    if (value < 128) return;
    const x = place % width, y = Math.floor(place / width);
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
  });
  if (right < 0) return null;
  const { fill, via, centre, bright } = settings.drawing;
  const size = via ?? settings.drawing.size;
  // Four times as fine as the image, so that it can be put between pixels.
  const fine = [size[0] * 4, size[1] * 4];
  const scale = Math.min((fill * fine[0]) / (bottom - top + 1), (fill * fine[1]) / (right - left + 1));
  const box = { width: right - left + 1, height: bottom - top + 1, channels: 1 };
  box.data = new Uint8ClampedArray(box.width * box.height).map(
    (_, place) => ink[(top + Math.floor(place / box.width)) * width + left + (place % box.width)],
  );
  const [w, h] = [Math.max(Math.round(box.width * scale), 1), Math.max(Math.round(box.height * scale), 1)];
  const small = resampled(box, w, h, { left: 0, top: 0, width: w, height: h });
  let [x, y] = [w / 2, h / 2];
  if (centre === "mass") {
    let total = 0;
    [x, y] = [0, 0];
    small.data.forEach((value, place) => {
      total += value;
      x += value * ((place % w) + 0.5);
      y += value * (Math.floor(place / w) + 0.5);
    });
    [x, y] = [x / total, y / total];
  }
  const corner = [Math.round(fine[1] / 2 - x), Math.round(fine[0] / 2 - y)];
  const page = { width: fine[1], height: fine[0], channels: 1, data: new Uint8ClampedArray(fine[0] * fine[1]) };
  small.data.forEach((value, place) => {
    const [column, row] = [corner[0] + (place % w), corner[1] + Math.floor(place / w)];
    if (column >= 0 && row >= 0 && column < page.width && row < page.height) page.data[row * page.width + column] = value;
  });
  let image = blocks(page, 4);
  if (!bright) image = { ...image, data: image.data.map((value) => 255 - value) };
  return via ? resized(image, settings.drawing.size, "stretch") : image;
}

// The means of blocks.
function blocks(image, side) {
  const [width, height] = [image.width / side, image.height / side], data = new Uint8ClampedArray(width * height);
  for (let place = 0; place < data.length; place++) {
    let total = 0;
    for (let k = 0; k < side * side; k++) {
      const [x, y] = [(place % width) * side + (k % side), Math.floor(place / width) * side + Math.floor(k / side)];
      total += image.data[y * image.width + x];
    }
    data[place] = Math.round(total / (side * side));
  }
  return { width, height, channels: 1, data };
}

// --- the network ------------------------------------------------------------------------------------------------------

async function unpacked(id) {
  const text = element(id).textContent, letters = atob(text);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function loaded() {
  const script = URL.createObjectURL(new Blob([await unpacked("runtime")], { type: "text/javascript" }));
  const ort = await import(script);
  ort.env.wasm.numThreads = 1; // several need headers that a file has not
  ort.env.wasm.wasmBinary = await unpacked("wasm");
  const session = await ort.InferenceSession.create(new Uint8Array(await unpacked("network")), { executionProviders: ["wasm"] });
  return async (image) => {
    const tensor = new ort.Tensor("uint8", Uint8Array.from(image.data), [1, rows, columns, channels]);
    return (await session.run({ images: tensor }))[settings.output].data;
  };
}

const network = loaded();
let latest = 0;

// Shows the prediction of an image; of several asked for at once the last one.
async function classify(image) {
  const turn = ++latest;
  try {
    const predict = await network;
    const { image: input, remark } = prepared(image);
    const probabilities = await predict(input);
    if (turn === latest) show(input, probabilities, remark);
  } catch (error) {
    report(error.message);
  }
}

function show(image, probabilities, remark) {
  const ranked = [...probabilities].map((probability, place) => ({ probability, name: settings.classes[place] ?? String(place) }));
  ranked.sort((one, other) => other.probability - one.probability);
  element("classes").replaceChildren(
    ...ranked.slice(0, 10).map(({ probability, name }) => {
      const row = document.createElement("li"), track = document.createElement("div"), bar = document.createElement("div");
      const [label, value] = [document.createElement("span"), document.createElement("span")];
      label.textContent = name;
      value.textContent = `${(100 * probability).toFixed(1)} %`;
      bar.style.width = `${100 * probability}%`;
      track.className = "track";
      track.append(bar);
      row.append(label, track, value);
      return row;
    }),
  );
  const seen = element("seen"), pixels = new ImageData(image.width, image.height);
  for (let place = 0; place < image.width * image.height; place++) {
    for (let channel = 0; channel < 3; channel++) {
      pixels.data[place * 4 + channel] = image.data[place * image.channels + (image.channels === 1 ? 0 : channel)];
    }
    pixels.data[place * 4 + 3] = 255;
  }
  [seen.width, seen.height] = [image.width, image.height];
  seen.getContext("2d").putImageData(pixels, 0, 0);
  element("seen-row").hidden = false;
  report(remark);
}

const report = (text) => (element("status").textContent = text);

// --- the page ---------------------------------------------------------------------------------------------------------

async function take(file) {
  if (!file) return;
  try {
    await classify(await decoded(file));
  } catch {
    report(`${file.name} cannot be read as an image`);
  }
}

element("file").addEventListener("change", (event) => take(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}

const board = element("board");
if (board) {
  const context = board.getContext("2d", { willReadFrequently: true });
  const colour = () => {
    // Ink is kept as opacity; the colour is the page's text colour.
    context.strokeStyle = context.fillStyle = getComputedStyle(document.body).color;
    [context.lineWidth, context.lineCap, context.lineJoin] = [board.width * settings.drawing.pen, "round", "round"];
  };
  let last = null;
  const at = (event) => {
    const box = board.getBoundingClientRect();
    return [((event.clientX - box.left) * board.width) / box.width, ((event.clientY - box.top) * board.height) / box.height];
  };
  const line = (to) => {
    colour();
    context.beginPath();
    context.moveTo(...(last ?? to));
    context.lineTo(...to);
    context.stroke();
    last = to;
  };
  const recognize = () => {
    const image = drawn(board);
    if (image) classify(image);
  };
  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    last = null;
    line(at(event));
  });
  board.addEventListener("pointermove", (event) => last && line(at(event)));
  for (const name of ["pointerup", "pointercancel"]) {
    board.addEventListener(name, () => {
      if (last) recognize();
      last = null;
    });
  }
  element("clear").addEventListener("click", () => {
    latest++;
    context.clearRect(0, 0, board.width, board.height);
    element("classes").replaceChildren();
    element("seen-row").hidden = true;
    report("");
  });
}

window.cnnjax = { prepared, decoded, predict: async (image) => (await network)(image) };
network.then(() => report(board ? "Draw, or choose an image." : "Choose an image."), (error) => report(`The network could not be loaded: ${error.message}`));
