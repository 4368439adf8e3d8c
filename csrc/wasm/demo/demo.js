// The demo: a photo through flic and, in as many bytes, through what the browser encodes by itself.
import { load } from "../flic.js";

const MODELS = ["jahp", "jahp-ms-ssim", "jahp-wide", "mlic", "mlic+", "mlic++", "mcquic"];
const MOST_PIXELS = 2_000_000; // photos are made smaller, so that the slider answers soon
const OTHERS = [["JPEG", "image/jpeg"], ["AVIF", "image/avif"]];

const $ = (id) => document.getElementById(id);
const weights = Object.fromEntries(MODELS.map((name) => [name, `../weights/${encodeURIComponent(name)}.safetensors`]));
const loading = load({ weights });
let flic; // once it is loaded; who clicks earlier waits
const codecs = {}; // what `info` says of each, once it is there

/** @type {{original: ImageData, name: string} | null} */
let photo = null;
let shown = {}; // name -> ImageData
let again = false, busy = false;

// ---- files in

$("file").onchange = () => $("file").files[0] && take($("file").files[0]);
$("sample").onclick = async () => {
  const response = await fetch("sample.png");
  take(new File([await response.blob()], "sample.png", { type: "image/png" }));
};
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
};
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
};
document.onpaste = (event) => event.clipboardData.files[0] && take(event.clipboardData.files[0]);

/** @param {File} file */
async function take(file) {
  try {
    flic = await loading;
    if (file.name.toLowerCase().endsWith(".flic")) return await showFlic(file);
    say("Reading the photo …");
    photo = { original: await pixelsOf(file), name: file.name.replace(/\.[^.]*$/, "") };
    $("controls").hidden = false;
    await compare();
  } catch (error) {
    fail(error);
  }
}

/** A .flic file has no original: it is shown alone. @param {File} file */
async function showFlic(file) {
  say("Decoding …");
  photo = null;
  $("controls").hidden = true;
  const bytes = new Uint8Array(await file.arrayBuffer()), header = await flic.header(bytes);
  await flic.decode(bytes); // fetches weights, and lets the browser compile: not what is timed
  const [image, decode] = await timed(() => flic.decode(bytes));
  shown = { flic: image };
  const quality = header.quality ? `, quality ${header.quality}` : "";
  $("about").textContent = `${header.width} × ${header.height}, ${header.model}${quality}`;
  offer(bytes, file.name);
  fill([{ name: "flic", bytes: bytes.length, image, decode }]);
  show("");
}

/** Pixels of a photo, in at most MOST_PIXELS. @param {Blob} blob */
async function pixelsOf(blob) {
  let bitmap = await createImageBitmap(blob);
  const factor = Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height));
  if (factor < 1) {
    const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map((side) => Math.round(side * factor));
    bitmap = await createImageBitmap(bitmap, { resizeWidth, resizeHeight, resizeQuality: "high" });
  }
  return draw(bitmap).getContext("2d").getImageData(0, 0, bitmap.width, bitmap.height);
}

// ---- comparison

for (const name of MODELS) $("model").add(new Option(name, name));
$("model").onchange = compare;
for (const option of $("model").options) { // what its weights take to fetch
  sizeOf(weights[option.value]).then((bytes) => bytes && (option.text += `, ${(bytes / 1e6).toFixed(1)} MB`));
}

/** Bytes of a file, if the server tells them without it: its headers alone are asked for. @param {string} url */
async function sizeOf(url) {
  const response = await fetch(url, { method: "HEAD" }).catch(() => null);
  return response?.ok ? Number(response.headers.get("Content-Length")) : 0;
}
$("quality").oninput = () => {
  $("quality-value").textContent = $("quality").value;
  compare();
};
$("other").onchange = () => show($("other").value);
$("divide").oninput = () => $("viewer").style.setProperty("--at", `${$("divide").value}%`);

/** Encodes at what is chosen now; while that runs, later choices wait, and only the last of them counts. */
async function compare() {
  if (!photo) return;
  again = true;
  if (busy) return;
  busy = true;
  try {
    while (again && photo) {
      again = false;
      await compareOnce(photo, $("model").value);
    }
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

async function compareOnce({ original, name }, codec) {
  say(codecs[codec] ? "Encoding …" : `Fetching ${codec} …`);
  codecs[codec] ??= await warmUp(codec, original);
  const { qualities } = codecs[codec];
  $("quality-field").hidden = qualities === 0;
  $("quality").max = qualities || 8;
  const quality = qualities ? Number($("quality").value) : 0;
  $("quality-value").textContent = $("quality").value;
  say("Encoding …");
  const [bytes, encode] = await timed(() => flic.encode(original, quality, { codec }));
  const [image, decode] = await timed(() => flic.decode(bytes));
  const rows = [{ name: "flic", bytes: bytes.length, image, encode, decode }];
  for (const [other, type] of OTHERS) {
    say(`${other} of the same size …`);
    const row = await sameSize(original, other, type, bytes.length);
    if (row) rows.push(row);
  }
  for (const row of rows) row.psnr = psnr(row.image, original);
  shown = Object.fromEntries([...rows.map((row) => [row.name, row.image]), ["Original", original]]);
  const larger = rows.filter((row) => row.bytes > bytes.length).map((row) => `, no smaller ${row.name}`);
  $("about").textContent = `${original.width} × ${original.height}${larger.join("")}`;
  offer(bytes, `${name}.flic`);
  fill(rows);
  choices(Object.keys(shown).filter((one) => one !== "flic"));
  show($("other").value);
}

/** Fetches weights and goes both ways once: neither that nor the browser's compiler is what is timed. */
async function warmUp(codec, original) {
  const info = await flic.info(codec);
  say("Encoding …");
  await flic.decode(await flic.encode(original, Math.min(info.qualities, 4), { codec }));
  return info;
}

/** What the browser's own encoder makes of as many bytes, or a little less, or its smallest; null if it has none. */
async function sameSize(original, name, type, target) {
  const canvas = draw(original), at = (quality) => canvas.convertToBlob({ type, quality });
  let low = 0, high = 1, best = await at(0), chosen = 0;
  if (best.type !== type) return null;
  for (let step = 0; step < 8; step++) {
    const middle = (low + high) / 2, blob = await at(middle);
    if (blob.size > target) high = middle;
    else [low, best, chosen] = [middle, blob, middle];
  }
  const [blob, encode] = await timed(() => at(chosen));
  const [bitmap, decode] = await timed(() => createImageBitmap(blob));
  const image = draw(bitmap).getContext("2d").getImageData(0, 0, original.width, original.height);
  return { name, bytes: best.size, image, encode, decode };
}

function psnr({ data }, { data: other }) {
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) {
    for (let c = i; c < i + 3; c++) sum += (data[c] - other[c]) ** 2;
  }
  return 10 * Math.log10((255 ** 2 * (data.length / 4) * 3) / sum);
}

// ---- what is seen

function show(other) {
  put($("left"), shown.flic);
  if (shown[other]) put($("right"), shown[other]);
  $("viewer").classList.toggle("alone", !shown[other]);
  $("right-label").textContent = other;
  $("result").hidden = false;
  $("drop").classList.add("small");
  if (!again) say("");
}

function fill(rows) {
  const most = Math.max(...rows.map((row) => row.psnr ?? -1));
  const ms = (time) => (time === undefined ? "" : `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`);
  $("rows").replaceChildren(...rows.map((row) => {
    const tr = document.createElement("tr"), head = document.createElement("th");
    head.textContent = row.name;
    head.scope = "row";
    tr.append(head);
    const bits = (8 * row.bytes) / (row.image.width * row.image.height);
    const cells = [
      row.bytes.toLocaleString("en"), bits.toFixed(3), row.psnr === undefined ? "" : `${row.psnr.toFixed(2)} dB`,
      ms(row.encode), ms(row.decode),
    ];
    for (const text of cells) tr.insertCell().textContent = text;
    if (rows.length > 1 && row.psnr === most) tr.cells[3].className = "best";
    return tr;
  }));
}

function choices(names) {
  if ([...$("other").options].map((option) => option.value).join() === names.join()) return;
  $("other").replaceChildren(...names.map((name) => new Option(name)));
}

function offer(bytes, name) {
  URL.revokeObjectURL($("save").href);
  $("save").href = URL.createObjectURL(new Blob([bytes]));
  $("save").download = name;
}

function say(text) {
  $("status").textContent = text;
  $("status").classList.remove("bad");
}

function fail(error) {
  console.error(error);
  $("status").textContent = error.message;
  $("status").classList.add("bad");
}

/** @param {HTMLCanvasElement | OffscreenCanvas} canvas */
function put(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  if (image instanceof ImageData) context.putImageData(image, 0, 0);
  else context.drawImage(image, 0, 0);
  return canvas;
}

const draw = (image) => put(new OffscreenCanvas(image.width, image.height), image);

/** @template T @param {() => Promise<T>} work @returns {Promise<[T, number]>} milliseconds last */
async function timed(work) {
  const begin = performance.now(), result = await work();
  return [result, performance.now() - begin];
}
