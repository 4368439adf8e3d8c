// .flic images in a web page: decoded to the same pixels as everywhere else, bit for bit.
//
//     import { load } from "./flic.js";
//     const flic = await load({ weights: "jahp.safetensors" });
//     await flic.replaceImages();

/** flic.h's flic_status, by number: what `error.status` may be. */
export const STATUS = [
  "ok", "invalid argument", "corrupt stream", "corrupt codec", "unsupported", "wrong codec", "limit", "out of memory",
  "io", "internal",
];

/**
 * Starts the library. Weights are fetched when a stream first needs them, once, and stay in the browser's cache.
 * @param {{weights: string | Record<string, string>, worker?: boolean}} options weights: the URL of a codec file, or
 *     several by name; one that is named as its model ("jahp") is tried first. worker: false decodes in the caller's
 *     thread.
 * @returns {Promise<Flic>}
 */
export async function load({ weights, worker = true }) {
  const named = typeof weights === "string" ? { weights } : weights;
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  const urls = Object.fromEntries(Object.entries(named).map(([name, url]) => [name, new URL(url, base).href]));
  if (!worker) {
    const { Library } = await import("./flic-worker.js");
    const library = await Library.open(urls);
    return new Flic((method, args) => library[method](...args), () => {});
  }
  const { call, close } = startWorker();
  await call("open", [urls]);
  return new Flic(call, close);
}

export class Flic {
  #call;
  #close;

  /** Use `load`. */
  constructor(call, close) {
    this.#call = call;
    this.#close = close;
  }

  /**
   * The pixels of a .flic file.
   * @param {ArrayBuffer | Uint8Array} bytes
   * @param {{parts?: number, maxPixels?: number}} [options] parts: decode only the first parts, a preview
   * @returns {Promise<ImageData>}
   */
  async decode(bytes, options) {
    const { data, width, height } = await this.#call("decode", [bytesOf(bytes), options]);
    return new ImageData(data, width, height);
  }

  /**
   * Size, model and quality of a .flic file; its first 128 bytes suffice, and nothing is decoded.
   * @param {ArrayBuffer | Uint8Array} bytes
   */
  header(bytes) {
    return this.#call("header", [bytesOf(bytes)]);
  }

  /**
   * @param {ImageData} image its alpha is kept where it is not opaque
   * @param {number} quality 1 to the codec's `qualities` in steps of 1/16, or 0 for a codec of one rate
   * @param {{codec?: string}} [options] codec: a name of `weights`, the first by default
   * @returns {Promise<Uint8Array>} a .flic file
   */
  encode({ data, width, height }, quality, options) {
    return this.#call("encode", [{ data, width, height }, quality, options]);
  }

  /** Name, family, qualities and fingerprint of a codec; fetches its weights. @param {string} [codec] as of `encode` */
  info(codec) {
    return this.#call("info", [codec]);
  }

  /**
   * Shows every <img> of `root` whose src or data-src ends in .flic. An image that fails keeps its alt text and gets an
   * "error" event.
   * @param {ParentNode} [root]
   * @returns {Promise<HTMLImageElement[]>} those that are shown now
   */
  async replaceImages(root = document) {
    const shown = [...root.querySelectorAll("img[src], img[data-src]")].map(async (image) => {
      const url = [image.dataset.src, image.getAttribute("src")].find((some) => some && isFlic(some, image.baseURI));
      if (!url) return null;
      try {
        const response = await fetch(url);
        if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
        const blob = await toBlob(await this.decode(await response.arrayBuffer()));
        delete image.dataset.src;
        image.src = URL.createObjectURL(blob);
        await image.decode();
        return image;
      } catch (error) {
        console.error(error);
        image.dispatchEvent(new ErrorEvent("error", { error, message: error.message }));
        return null;
      }
    });
    return (await Promise.all(shown)).filter((image) => image !== null);
  }

  /** Ends the worker. */
  close() {
    this.#close();
  }
}

/** @param {string} url @param {string} base */
function isFlic(url, base) {
  try {
    return new URL(url, base).pathname.toLowerCase().endsWith(".flic");
  } catch {
    return false; // no URL
  }
}

/** @param {ArrayBuffer | Uint8Array} bytes */
const bytesOf = (bytes) => (bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes));

/** PNG, which keeps every pixel. @param {ImageData} pixels @returns {Promise<Blob>} */
function toBlob(pixels) {
  const canvas = document.createElement("canvas");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve));
}

function startWorker() {
  const worker = new Worker(new URL("./flic-worker.js", import.meta.url), { type: "module", name: "flic" });
  /** @type {Map<number, {resolve: Function, reject: Function}>} */
  const waiting = new Map();
  let next = 0, closed = false;
  const failAll = (message) => {
    for (const { reject } of waiting.values()) reject(new Error(message));
    waiting.clear();
  };
  worker.onerror = (event) => failAll(`flic-worker.js: ${event.message ?? "cannot be loaded"}`);
  worker.onmessage = ({ data: { id, result, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(Object.assign(new Error(error.message), { name: "FlicError", status: error.status }));
    else resolve(result);
  };
  return {
    call: (method, args) =>
      new Promise((resolve, reject) => {
        if (closed) return reject(new Error("the library was closed"));
        waiting.set(next, { resolve, reject });
        worker.postMessage({ id: next++, method, args });
      }),
    close: () => {
      closed = true;
      worker.terminate();
      failAll("the library was closed");
    },
  };
}
