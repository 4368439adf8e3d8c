"""The library in a browser: the pixels and bytes of every other fastlic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastlic
from fastlic.bench.chromium import Chromium, program, served
from fastlic.codec.cards import cards
from fastlic.codec.container import look
from fastlic.codec.image_files import read_image

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
CODECS = sorted(path.stem for path in GOLDEN.glob("tiny_pixels_*.safetensors"))
SHIPPED = sorted(cards())

pytestmark = pytest.mark.slow

# Helpers of the page: bytes of a URL, the SHA-256 of pixels as [3, height, width], and what a promise was refused with.
PAGE = """<!doctype html><title>test</title><link rel="icon" href="data:,">
<img id="shown" data-src="golden/tiny_pixels_jahp_v2.flic" alt="a photo">
<script type="module">
import { load } from "./flic/flic.js";
const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
const hex = (buffer) => Array.from(new Uint8Array(buffer), (b) => b.toString(16).padStart(2, "0")).join("");
const digest = async ({ data, width, height }) => {
  const planes = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    if (data[4 * i + 3] !== 255) throw new Error("alpha is not 255");
    for (let c = 0; c < 3; c++) planes[c * width * height + i] = data[4 * i + c];
  }
  return hex(await crypto.subtle.digest("SHA-256", planes));
};
const refused = (promise) => promise.then(() => null, ({ message, status }) => ({ message, status }));
Object.assign(window, { load, bytes, hex, digest, refused });
</script>"""


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return read_image(ROOT / "tests" / "images" / "astronaut.png").pixels[:, :301, :420].contiguous()


@pytest.fixture(scope="module")
def folder(built: Path, tmp_path_factory: pytest.TempPathFactory, photo: Tensor) -> Path:
    out = tmp_path_factory.mktemp("site")
    (out / "index.html").write_text(PAGE)
    for name, target in (("flic", built), ("golden", GOLDEN), ("weights", ROOT / "fastlic" / "weights")):
        (out / name).symlink_to(target)
    (out / "photo.bin").write_bytes(photo.permute(1, 2, 0).contiguous().numpy().tobytes())
    return out


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    with served(folder) as url:
        yield url


@pytest.fixture(scope="module")
def page(site: str) -> Iterator[Chromium]:
    pytest.importorskip("playwright")
    if program() is None:
        pytest.skip("chromium is not installed")
    with Chromium() as browser:
        browser.open(f"{site}/index.html")
        yield browser


def digest(image: Tensor) -> str:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.golden
@pytest.mark.parametrize("worker", [True, False])
def test_golden_streams_decode_to_the_golden_pixels(page: Chromium, worker: bool):
    weights = {name: f"golden/{name}.safetensors" for name in CODECS}
    found = page.evaluate(f"""
        const flic = await load({{ weights: {json.dumps(weights)}, worker: {json.dumps(worker)} }});
        const found = {{}};
        for (const name of {json.dumps(CODECS)}) {{
          found[name] = await digest(await flic.decode(await bytes(`golden/${{name}}_v2.flic`)));
        }}
        flic.close();
        return found;
    """)
    for name in CODECS:
        recorded = json.loads((GOLDEN / f"{name}.json").read_text())
        assert found[name] == recorded["pixels"][f"{name}_v2"], name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_browser_and_python_make_the_same_bytes_and_pixels_of_a_photo(
    page: Chromium, folder: Path, photo: Tensor, name: str
):
    codec = fastlic.load(name)
    quality = 4.5 if codec.qualities else 0
    data = codec.compress(photo, quality)
    (folder / "stream.flic").write_bytes(data)
    height, width = photo.shape[1:]
    found = page.evaluate(f"""
        const flic = await load({{ weights: "weights/{name}.safetensors" }});
        const rgb = await bytes("photo.bin"), image = new ImageData({width}, {height});
        for (let i = 0; i < {width * height}; i++) {{
          for (let c = 0; c < 3; c++) image.data[4 * i + c] = rgb[3 * i + c];
          image.data[4 * i + 3] = 255;
        }}
        const pixels = await digest(await flic.decode(await bytes("stream.flic?{name}")));
        const encoded = hex(await flic.encode(image, {quality}));
        flic.close();
        return {{ pixels, encoded }};
    """)
    assert found["pixels"] == digest(codec.decompress(data, dtype=torch.uint8))
    assert found["encoded"] == data.hex()


@pytest.mark.parametrize("name", SHIPPED)
def test_kodak_has_the_same_pixels_in_a_browser_and_in_python(page: Chromium, folder: Path, kodak: Path, name: str):
    codec, expected = fastlic.load(name), {}
    for path in sorted(kodak.glob("kodim*.png")):
        data = codec.compress(read_image(path).pixels, 4)
        (folder / f"{path.stem}.flic").write_bytes(data)
        expected[path.stem] = digest(codec.decompress(data, dtype=torch.uint8))
    found = page.evaluate(f"""
        const flic = await load({{ weights: "weights/{name}.safetensors" }}), found = {{}};
        for (const image of {json.dumps(sorted(expected))}) {{
          found[image] = await digest(await flic.decode(await bytes(`${{image}}.flic?{name}`)));
        }}
        flic.close();
        return found;
    """)
    assert found == expected


def test_a_stream_finds_its_codec_among_several_and_headers_need_none(page: Chromium):
    data = (GOLDEN / "tiny_pixels_mlicpp_v2.flic").read_bytes()
    header = page.evaluate("""
        const weights = { jahp: "golden/tiny_pixels_jahp.safetensors", other: "golden/tiny_pixels_mlicpp.safetensors" };
        const flic = await load({ weights });
        await flic.decode(await bytes("golden/tiny_pixels_mlicpp_v2.flic"));
        flic.close();
        const none = await load({ weights: "nowhere" });
        const header = await none.header((await bytes("golden/tiny_pixels_mlicpp_v2.flic")).slice(0, 64));
        none.close();
        return header;
    """)
    expected = look(data)
    assert (header["model"], header["version"], header["quality"]) == ("mlic++", 2, 4.5)
    assert (header["width"], header["height"]) == (expected.width, expected.height)
    assert (header["fingerprint"], header["framingBytes"]) == (expected.fingerprint, expected.framing_bytes)


def test_errors_have_the_librarys_words_and_status(page: Chromium):
    found = page.evaluate("""
        const flic = await load({ weights: { jahp: "golden/tiny_pixels_jahp.safetensors" } });
        const data = await bytes("golden/tiny_pixels_jahp_v2.flic"), damaged = data.slice();
        damaged[damaged.length - 3] ^= 1;
        const answer = {
          none: await refused(flic.decode(new Uint8Array(100))),
          damaged: await refused(flic.decode(damaged)),
          other: await refused(flic.decode(await bytes("golden/tiny_pixels_scale_v2.flic"))),
          large: await refused(flic.decode(data, { maxPixels: 100 })),
          quality: await refused(flic.encode(new ImageData(8, 8), 99)),
          again: await digest(await flic.decode(data)),
        };
        flic.close();
        const nowhere = await load({ weights: "nowhere.safetensors" });
        answer.nowhere = await refused(nowhere.decode(data));
        nowhere.close();
        return answer;
    """)
    words = {"none": "FLIC", "damaged": "checksum", "other": "no codec here", "large": "100", "quality": "quality"}
    status = {"none": 2, "damaged": 2, "other": 5, "large": 6, "quality": 1, "nowhere": 8}
    assert {name: found[name]["status"] for name in status} == status
    assert all(word in found[name]["message"] for name, word in words.items()), found
    assert found["again"] == json.loads((GOLDEN / "tiny_pixels_jahp.json").read_text())["pixels"]["tiny_pixels_jahp_v2"]


def test_images_of_a_page_are_replaced_by_what_they_hold(page: Chromium):
    found = page.evaluate("""
        const flic = await load({ weights: "golden/tiny_pixels_jahp.safetensors" });
        const shown = await flic.replaceImages();
        const image = document.getElementById("shown"), canvas = new OffscreenCanvas(image.width, image.height);
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        flic.close();
        const pixels = await digest(context.getImageData(0, 0, image.naturalWidth, image.naturalHeight));
        return { pixels, ids: shown.map((one) => one.id) };
    """)
    recorded = json.loads((GOLDEN / "tiny_pixels_jahp.json").read_text())
    assert found == {"pixels": recorded["pixels"]["tiny_pixels_jahp_v2"], "ids": ["shown"]}


def test_weights_are_fetched_once_and_kept(page: Chromium):
    kept = page.evaluate("""
        await caches.delete("flic-weights");
        const url = new URL("golden/tiny_pixels_jahp.safetensors?once", location).href;
        const data = await bytes("golden/tiny_pixels_jahp_v2.flic");
        const first = await load({ weights: url });
        await first.decode(data);
        first.close();
        const cache = await caches.open("flic-weights"), kept = (await cache.keys()).map((request) => request.url);
        await cache.put(url, new Response("replaced"));  // what the next one reads, if it reads the cache
        const second = await load({ weights: url });
        const { status } = await refused(second.decode(data));
        second.close();
        await caches.delete("flic-weights");
        return { own: kept.length === 1 && kept[0] === url, status };
    """)
    assert kept == {"own": True, "status": 3}


def test_the_demo_shows_a_photo_beside_jpeg_and_a_flic_file_alone(page: Chromium, site: str, tmp_path: Path):
    wait = """
        const idle = () => !$("result").hidden && $("status").textContent === "";
        for (const end = performance.now() + 60_000; !idle() && performance.now() < end;) {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        return { status: $("status").textContent, alone: $("viewer").classList.contains("alone"),
                 rows: [...$("rows").rows].map((row) => [...row.cells].map((cell) => cell.textContent)) };
    """
    begin, before = "const $ = (id) => document.getElementById(id);", len(page.errors)
    offered = {name: (ROOT / "fastlic" / "weights" / f"{name}.safetensors").stat().st_size / 1e6 for name in SHIPPED}
    page.resize(1280, 900)
    page.open(f"{site}/flic/demo/index.html")
    found = page.evaluate(f'{begin} $("sample").click(); {wait}')
    page.screenshot(tmp_path / "demo.png")
    rows = {name: cells for name, *cells in found["rows"]}
    size, psnr = ({name: float(cells[i].split()[0].replace(",", "")) for name, cells in rows.items()} for i in (0, 2))
    assert found["status"] == "" and not found["alone"]
    assert size["JPEG"] <= size["flic"] and psnr["flic"] > psnr["JPEG"]
    options = page.evaluate(f"{begin} return [...$('model').options].map((one) => [one.value, one.text]);")
    assert {value: text for value, text in options} == {n: f"{n}, {mb:.1f} MB" for n, mb in offered.items()}
    seen = {}
    for name in SHIPPED:
        other = page.evaluate(f"""
            {begin}
            $("result").hidden = true;
            $("model").value = {json.dumps(name)};
            $("model").dispatchEvent(new Event("change"));
            {wait}
        """)
        assert other["status"] == "" and not other["alone"], name
        seen[name] = other["rows"][0][1]
    assert len(set(seen.values())) == len(SHIPPED), seen  # each with its own bytes
    page.evaluate(f'{begin} $("result").hidden = true; $("model").value = "jahp"; $("model").onchange(); {wait}')
    found = page.evaluate(f"""
        {begin}
        const data = await (await fetch($("save").href)).arrayBuffer(), transfer = new DataTransfer();
        transfer.items.add(new File([data], "saved.flic"));
        $("result").hidden = true;
        document.dispatchEvent(new DragEvent("drop", {{ dataTransfer: transfer, cancelable: true }}));
        {wait}
    """)
    assert found["alone"] and found["rows"][0][:2] == ["flic", f"{size['flic']:,.0f}"]
    for width in (1280, 390):  # nothing reaches beyond the edge of a phone
        page.resize(width, 844)
        assert page.evaluate("return document.documentElement.scrollWidth") <= width
    assert page.errors[before:] == []
    assert (tmp_path / "demo.png").stat().st_size > 100_000
