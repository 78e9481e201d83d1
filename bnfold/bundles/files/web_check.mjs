// Judges the model by the golden values, by the same criterion as `bnfold verify`, and shows times.
import { fetched, here, openModel, readManifest, typed } from "./model.mjs";

const REPEATS = 20;
const REMEDY = "copy the whole bundle again, or write it again with `bnfold bundle`";
const page = document.querySelector("main");
const say = (sentence) => { document.querySelector("#verdict").textContent = sentence; };
const short = (number) => (number === 0 ? "0" : number.toPrecision(3));

function row(table, cells) {
  const line = document.querySelector(`${table} tbody`).insertRow();
  for (const cell of cells) line.insertCell().textContent = cell;
  document.querySelector(table).hidden = false;
}

// Every file as it was written. Browsers compute digests on https and on localhost alone.
async function checkDigests(manifest) {
  if (!globalThis.crypto?.subtle) return "digests were not checked: open the page on https or localhost";
  for (const file of manifest.files) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await fetched(file.path)));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== file.sha256) {
      throw new Error(`${file.path} is not as it was written: found sha256 ${found.slice(0, 12)}, ` +
        `expected ${file.sha256.slice(0, 12)}; ${REMEDY}`);
    }
  }
  return null;
}

const isFloat = (dtype) => dtype.startsWith("float");
const value64 = (data, i) => (data instanceof Uint16Array ? fromHalf(data[i]) : data[i]);  // no Float16Array: bits

// IEEE 754 binary16 from its bits.
function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
}

function take(pooled, output, got, stored, golden) {
  const exact = typed(stored.dtype, golden, stored.offset, stored.bytes);
  const agreed = stored.agreed && typed("uint8", golden, stored.agreed.offset, stored.agreed.bytes);
  if (!got) return `output ${output.name} is missing`;
  if (got.type !== output.dtype || got.dims.join() !== stored.shape.join()) {
    return `output ${output.name} is ${got.type} [${got.dims}], expected ${output.dtype} [${stored.shape}]`;
  }
  for (let i = 0; i < exact.length; i += 1) {
    if (agreed && !agreed[i]) continue;
    if (!isFloat(output.dtype)) {
      pooled.n += 1;
      if (BigInt(got.data[i]) !== BigInt(exact[i])) pooled.maximum = pooled.squares = Infinity;
      continue;
    }
    const error = Math.abs(value64(got.data, i) - exact[i]);
    if (!Number.isFinite(error)) return `output ${output.name} holds NaN or infinity`;
    pooled.n += 1;
    pooled.squares += error * error;
    pooled.maximum = Math.max(pooled.maximum, error);
  }
  return null;
}

function judged(outputs, pooled, failures) {
  for (const output of outputs) {
    const own = pooled[output.name], rms = own.n ? Math.sqrt(own.squares / own.n) : 0;
    row("#outputs", [output.name, own.n, short(rms), short(output.allowed_rms), short(own.maximum), short(output.allowed_maximum)]);
    if (!(rms <= output.allowed_rms)) failures.push(`output ${output.name}: root mean square error ${short(rms)}, allowed ${short(output.allowed_rms)}`);
    if (!(own.maximum <= output.allowed_maximum)) failures.push(`output ${output.name}: largest error ${short(own.maximum)}, allowed ${short(output.allowed_maximum)}`);
  }
  const n = Object.values(pooled).reduce((sum, own) => sum + own.n, 0);
  if (!n && !failures.length) failures.push("nothing was compared");
  return n;
}

async function check() {
  const manifest = await readManifest();
  say("Checking digests …");
  const note = await checkDigests(manifest);
  say("Loading the model …");
  const model = await openModel(manifest);
  const index = JSON.parse(new TextDecoder().decode(await fetched(`${manifest.golden.path}/golden.json`)));
  const golden = await fetched(`${manifest.golden.path}/golden.bin`);
  const pooled = Object.fromEntries(manifest.outputs.map((o) => [o.name, { n: 0, squares: 0, maximum: 0 }]));
  const failures = [], times = [];
  let smallest;
  for (const [number, feed] of index.feeds.entries()) {
    say(`Golden input ${number + 1} of ${index.feeds.length} …`);
    const feeds = Object.fromEntries(feed.inputs.map((one) => [
      one.name, model.tensor(one.dtype, typed(one.dtype, golden, one.offset, one.bytes), one.shape),
    ]));
    if (!smallest || feed.batch < smallest.batch) smallest = { batch: feed.batch, feeds };
    const begin = performance.now();
    const answers = await model.run(feeds);
    times.push(performance.now() - begin);
    for (const [k, output] of manifest.outputs.entries()) {
      const failure = take(pooled[output.name], output, answers[output.name], feed.outputs[k], golden);
      if (failure && !failures.includes(failure)) failures.push(failure);
    }
  }
  const n = judged(manifest.outputs, pooled, failures);
  say("Measuring …");
  const steady = [];
  for (let k = 0; k < REPEATS; k += 1) {
    const begin = performance.now();
    await model.run(smallest.feeds);
    steady.push(performance.now() - begin);
  }
  steady.sort((a, b) => a - b);
  row("#times", ["opening the model", `${model.openMs.toFixed(1)} ms`]);
  row("#times", ["first run", `${times[0].toFixed(1)} ms`]);
  row("#times", [`median of ${REPEATS} runs, batch ${smallest.batch}`, `${steady[REPEATS / 2].toFixed(2)} ms`]);
  row("#times", ["onnxruntime-web", `${model.version}, wasm, ${model.threads} thread${model.threads > 1 ? "s" : ""}`]);
  return { n, failures, note };
}

function ended(state, sentence, failures) {
  say(sentence);
  for (const failure of failures) document.querySelector("#failures").append(Object.assign(document.createElement("li"), { textContent: failure }));
  page.dataset.state = state;
}

check().then(
  ({ n, failures, note }) => {
    const found = failures.length ? "Failed: the model is not executed rightly here." : `Passed: ${n.toLocaleString("en")} values are as close to float64 as right ones are.`;
    ended(failures.length ? "failed" : "passed", note ? `${found} (${note})` : found, failures);
  },
  (error) => ended("failed", `Failed: ${error.message}`, [`see ${here("manifest.json").pathname}`]),
);
