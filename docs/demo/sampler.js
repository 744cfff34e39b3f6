// The next-site view of two models of gen_jax, for a browser: a row begins, then its pixels come,
// each from what was kept of the rows above and of the pixels to the left. All numbers lie in the
// memory of one WebAssembly module, feature maps as [columns, images, features], so that a
// convolution is one matmul a tap, with a moved pointer; the matmul, nearly all of the arithmetic,
// is the module's only function, and the rest is JavaScript.
//
// It is one function, because a page that was opened from a disk can only make a worker of text.
function sampler() {
  "use strict";

  const TILE = 16; // outputs that the matmul computes at once; every layer has a multiple
  const range = (count) => Array.from({ length: count }, (_, i) => i);

  // out[rows, outputs] += x[rows, inputs] @ w[inputs, outputs], all float32; two rows and 16
  // outputs at a time are eight vectors of four in registers. Rows are even in number.
  function matmulModule() {
    const unsigned = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)]);
    const list = (items) => [...unsigned(items.length), ...items.flat()];
    const sized = (bytes) => [...unsigned(bytes.length), ...bytes];
    const section = (id, items) => [id, ...sized(list(items))];
    const name = (text) => sized([...text].map((letter) => letter.charCodeAt(0)));
    const [I32, V128] = [0x7f, 0x7b];
    const [ROWS, INPUTS, OUTPUTS, X, W, OUT] = range(6); // the parameters
    const [X_AT, X_END, X_ROW, W_AT, OUT_AT, OUT_END, OUT_ROW] = range(7).map((i) => 6 + i);
    const SUM = range(8).map((i) => 13 + i); // of the upper row, then of the lower
    const [UPPER, LOWER, WEIGHT] = [21, 22, 23]; // an input of each row, and four weights
    const get = (local) => [0x20, local];
    const set = (local, ...value) => [...value.flat(), 0x21, local];
    const number = (n) => [0x41, n]; // up to 63
    const plus = (a, b) => [...a, ...b, 0x6a];
    const minus = (a, b) => [...a, ...b, 0x6b];
    const shifted = (a, bits) => [...a, ...number(bits), 0x74];
    const vector = (...code) => [0xfd, ...code];
    const load = (at, offset) => [...at, ...vector(0x00, 2, ...unsigned(offset))];
    const splat = (at) => [...at, ...vector(0x09, 2, 0)]; // one number, four times
    const store = (at, offset, value) => {
      return [...at, ...value, ...vector(0x0b, 2, ...unsigned(offset))];
    };
    const product = (a, b) => [...a, ...b, ...vector(0xe6, 0x01)];
    const sum = (a, b) => [...a, ...b, ...vector(0xe4, 0x01)];
    // do { body } while (condition)
    const loop = (body, condition) => [0x03, 0x40, ...body.flat(), ...condition, 0x0d, 0, 0x0b];
    const below = (a, b) => [...get(a), ...get(b), 0x49];
    const next = (at, row) => plus(get(at), get(row));

    const multiply = [
      set(UPPER, splat(get(X_AT))),
      set(LOWER, splat(next(X_AT, X_ROW))),
      ...range(4).map((i) => [
        ...set(WEIGHT, load(get(W_AT), 16 * i)),
        ...set(SUM[i], sum(get(SUM[i]), product(get(UPPER), get(WEIGHT)))),
        ...set(SUM[i + 4], sum(get(SUM[i + 4]), product(get(LOWER), get(WEIGHT)))),
      ]),
      set(X_AT, plus(get(X_AT), number(4))),
      set(W_AT, next(W_AT, OUT_ROW)),
    ];
    const out = (i) => (i < 4 ? get(OUT_AT) : next(OUT_AT, OUT_ROW));
    const tile = [
      ...SUM.map((local, i) => set(local, load(out(i), 16 * (i % 4)))),
      set(X_AT, get(X)),
      set(X_END, next(X, X_ROW)),
      // The column of weights: as far in as the output is in its row.
      set(W_AT, minus(plus(get(W), get(OUT_AT)), get(OUT))),
      loop(multiply, below(X_AT, X_END)),
      ...SUM.map((local, i) => store(out(i), 16 * (i % 4), get(local))),
      set(OUT_AT, plus(get(OUT_AT), shifted(number(TILE), 2))),
    ];
    const rows = [
      set(OUT_AT, get(OUT)),
      loop(tile, below(OUT_AT, OUT_END)),
      set(X, next(X_END, X_ROW)),
      set(OUT, plus(get(OUT), shifted(get(OUT_ROW), 1))),
      set(OUT_END, next(OUT, OUT_ROW)),
      set(ROWS, minus(get(ROWS), number(2))),
    ];
    const code = [
      set(X_ROW, shifted(get(INPUTS), 2)),
      set(OUT_ROW, shifted(get(OUTPUTS), 2)),
      set(OUT_END, next(OUT, OUT_ROW)),
      loop(rows, get(ROWS)),
      [0x0b],
    ].flat();
    const locals = list([[7, I32], [11, V128]]);
    return new Uint8Array([
      ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, [[0x60, ...list(range(6).map(() => [I32])), 0]]),
      ...section(2, [[...name("page"), ...name("memory"), 2, 0, 1]]),
      ...section(3, [[0]]),
      ...section(7, [[...name("matmul"), 0, 0]]),
      ...section(10, [sized([...locals, ...code])]),
    ]);
  }

  class Memory {
    constructor() {
      const memory = new WebAssembly.Memory({ initial: 1 }); // pages of 64 KiB
      const module = new WebAssembly.Module(matmulModule());
      this.memory = memory;
      this.matmul = new WebAssembly.Instance(module, { page: { memory } }).exports.matmul;
      this.end = 0;
    }

    // What is made of it, in room enough: it is made again if that had to grow, because arrays end
    // with the buffer that they are of.
    hold(make) {
      this.end = 0;
      const made = make();
      const lacking = Math.ceil((this.end - this.memory.buffer.byteLength) / 65536);
      if (lacking <= 0) return made;
      this.memory.grow(lacking);
      return this.hold(make);
    }

    zeros(count) {
      const start = this.end;
      this.end += 4 * Math.ceil(count / 4) * 4;
      // What finds no room lies elsewhere until it is made again.
      if (this.end > this.memory.buffer.byteLength) return new Float32Array(count);
      return new Float32Array(this.memory.buffer, start, count).fill(0);
    }

    // A row of feature maps, with `side` columns of zeros to either side.
    row(width, images, features, side = 0) {
      const stride = images * features;
      const data = this.zeros((width + 2 * side) * stride);
      const index = (column) => (column + side) * stride;
      return { data, features, index, at: (column) => data.byteOffset + 4 * index(column) };
    }

    // A kernel [taps …, inputs, outputs] and its bias, outputs padded by zeros.
    layer(kernel, bias) {
      const inputs = kernel.shape.at(-2), outputs = kernel.shape.at(-1);
      const padded = TILE * Math.ceil(outputs / TILE);
      const taps = this.zeros((kernel.data.length / outputs) * padded);
      for (let i = 0; i < kernel.data.length; i += outputs) {
        taps.set(kernel.data.subarray(i, i + outputs), (i / outputs) * padded);
      }
      const full = this.zeros(padded);
      if (bias) full.set(bias.data);
      const at = (tap) => taps.byteOffset + 4 * tap * inputs * padded;
      return { inputs, outputs: padded, bias: full, at };
    }

    // out += x @ tap, of so many rows
    add(out, x, layer, tap, rows) {
      this.matmul(rows, layer.inputs, layer.outputs, x, layer.at(tap), out);
    }
  }

  // Copies of a bias, side by side, over count numbers from start on.
  function spread(data, start, count, bias) {
    for (let i = start; i < start + count; i += bias.length) data.set(bias, i);
  }

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const tanh = (x) => 2 / (1 + Math.exp(-2 * x)) - 1;

  // tanh(first half) · σ(second half) of each row of x, into out.
  function gate(out, outStart, x, start, rows, features) {
    for (let r = 0; r < rows; r++) {
      const from = start + 2 * r * features, to = outStart + r * features;
      for (let f = 0; f < features; f++) {
        out[to + f] = tanh(x[from + f]) * sigmoid(x[from + features + f]);
      }
    }
  }

  // ReLU and 1 × 1 convolutions; the first output of each image is its logit.
  function makeHead(memory, tensors, images) {
    const convs = [];
    for (let i = 0; tensors[`head/convs_${i}/kernel`]; i++) {
      const conv = memory.layer(tensors[`head/convs_${i}/kernel`], tensors[`head/convs_${i}/bias`]);
      convs.push({ ...conv, out: memory.zeros(images * conv.outputs) });
    }
    return {
      input: memory.zeros(images * convs[0].inputs),
      logits() {
        let x = this.input;
        for (const conv of convs) {
          for (let i = 0; i < x.length; i++) x[i] = Math.max(x[i], 0);
          spread(conv.out, 0, conv.out.length, conv.bias);
          memory.add(conv.out.byteOffset, x.byteOffset, conv, 0, images);
          x = conv.out;
        }
        const last = convs.at(-1).outputs;
        return range(images).map((image) => x[image * last]);
      },
    };
  }

  // A model is `beginRow(row)`, `logits(column)` and `put(column, image, level)`, in this order.

  // van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders".
  function gatedPixelCNN(memory, tensors, width, images) {
    const layers = [];
    for (let i = 0; tensors[`layers_${i}/vertical/kernel`]; i++) {
      const of = (part, name) => tensors[`layers_${i}/${part}/${name}`];
      const [numRows, taps, inputs] = of("vertical", "kernel").shape, side = taps >> 1;
      const features = of("out", "kernel").shape.at(-1);
      layers.push({
        side, taps, features,
        vertical: memory.layer(of("vertical", "kernel"), of("vertical", "bias")),
        horizontal: memory.layer(of("horizontal", "kernel"), of("horizontal", "bias")),
        beside: memory.layer(of("horizontal", "kernel_beside")),
        out: memory.layer(of("out", "kernel"), of("out", "bias")),
        // Rows of the vertical stack's input; the last is the one above the row that is drawn.
        above: range(numRows).map(() => memory.row(width, images, inputs, side)),
        left: memory.row(width, images, inputs, side), // of the row that is drawn
        gates: memory.row(width, images, 2 * features),
      });
    }
    const head = makeHead(memory, tensors, images), rows = width * images;
    const [first] = layers, features = first.features;
    const maps = memory.row(width, images, 2 * features);
    const gated = memory.zeros(images * features);
    return {
      readsKnownRows: false, // what is below reads rows above through the vertical stack alone
      beginRow(row) {
        for (const { gates, horizontal } of layers) {
          spread(gates.data, 0, gates.data.length, horizontal.bias);
        }
        if (row === 0) return; // above the image are zeros, and no bias
        for (const { above } of layers) above.push(above.shift());
        first.above.at(-1).data.set(first.left.data);
        layers.forEach(({ side, taps, vertical, beside, above, gates }, i) => {
          spread(maps.data, 0, maps.data.length, vertical.bias);
          above.forEach((input, r) => {
            for (let tap = 0; tap < taps; tap++) {
              memory.add(maps.at(0), input.at(tap - side), vertical, r * taps + tap, rows);
            }
          });
          memory.add(gates.at(0), maps.at(0), beside, 0, rows);
          const next = layers[i + 1]?.above.at(-1);
          if (next) gate(next.data, next.index(0), maps.data, 0, rows, features);
        });
      },
      logits(column) {
        layers.forEach(({ side, horizontal, out, left, gates }, i) => {
          // Mask A: the first layer does not read the pixel itself.
          for (let tap = 0; tap < side + (i > 0); tap++) {
            memory.add(gates.at(column), left.at(column - side + tap), horizontal, tap, images);
          }
          gate(gated, 0, gates.data, gates.index(column), images, features);
          const next = layers[i + 1]?.left;
          const data = next?.data ?? head.input, start = next?.index(column) ?? 0;
          spread(data, start, images * features, out.bias);
          memory.add(data.byteOffset + 4 * start, gated.byteOffset, out, 0, images);
          if (i === 0) return;
          const own = left.index(column);
          for (let f = 0; f < images * features; f++) data[start + f] += left.data[own + f];
        });
        return head.logits();
      },
      put(column, image, level) {
        first.left.data[first.left.index(column) + image] = 2 * level - 1;
      },
    };
  }

  // van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", §3.1.
  function rowLSTM(memory, tensors, width, images) {
    const conv = (name) => tensors[`first/conv/${name}`];
    const [numRows, taps] = conv("kernel_above").shape, side = taps >> 1;
    const first = memory.layer(conv("kernel"), conv("bias"));
    const fromAbove = memory.layer(conv("kernel_above"));
    const above = range(numRows).map(() => memory.row(width, images, 1, side));
    const left = memory.row(width, images, 1, side);
    const maps = memory.row(width, images, first.outputs);
    const layers = [];
    for (let i = 0; tensors[`layers_${i}/out/kernel`]; i++) {
      const of = (part, name) => tensors[`layers_${i}/${part}/${name}`];
      const [columns, units] = of("gates", "kernel_state").shape, reach = columns >> 1;
      const input = memory.layer(of("gates", "kernel_input"), of("gates", "bias"));
      layers.push({
        units, columns, reach, input,
        fromStates: memory.layer(of("gates", "kernel_state")),
        out: memory.layer(of("out", "kernel"), of("out", "bias")),
        left: memory.row(width, images, input.inputs, reach), // of the row that is drawn
        states: memory.row(width, images, units, reach), // of the row above, then of this row
        cells: memory.row(width, images, units),
        gates: memory.row(width, images, 4 * units),
      });
    }
    const head = makeHead(memory, tensors, images), rows = width * images;

    // Gates [o f i g] become the cell and the state of each image.
    function lstm({ gates, cells, states, units }, column) {
      const g = gates.data, c = cells.data, s = states.data;
      for (let image = 0; image < images; image++) {
        const cell = cells.index(column) + image * units;
        const state = states.index(column) + image * units;
        for (let u = 0; u < units; u++) {
          const o = gates.index(column) + 4 * image * units + u;
          const f = o + units, i = f + units, candidate = i + units;
          c[cell + u] = sigmoid(g[f]) * c[cell + u] + sigmoid(g[i]) * tanh(g[candidate]);
          s[state + u] = sigmoid(g[o]) * tanh(c[cell + u]);
        }
      }
    }

    return {
      readsKnownRows: true, // the states of a row are read by the next
      beginRow(row) {
        spread(maps.data, 0, maps.data.length, first.bias);
        if (row > 0) {
          above.push(above.shift());
          above.at(-1).data.set(left.data);
        }
        above.forEach((input, r) => {
          for (let tap = 0; tap < taps; tap++) {
            memory.add(maps.at(0), input.at(tap - side), fromAbove, r * taps + tap, rows);
          }
        });
        for (const { columns, reach, input, fromStates, states, gates } of layers) {
          spread(gates.data, 0, gates.data.length, input.bias);
          for (let tap = 0; tap < columns; tap++) {
            memory.add(gates.at(0), states.at(tap - reach), fromStates, tap, rows);
          }
        }
      },
      logits(column) {
        const next = layers[0].left;
        for (let tap = 0; tap < side; tap++) {
          memory.add(maps.at(column), left.at(column - side + tap), first, tap, images);
        }
        const start = maps.index(column);
        const pixel = maps.data.subarray(start, start + images * first.outputs);
        next.data.set(pixel, next.index(column));
        layers.forEach((layer, i) => {
          const { reach, input, out, left: own, states, gates } = layer;
          for (let tap = 0; tap <= reach; tap++) {
            memory.add(gates.at(column), own.at(column - reach + tap), input, tap, images);
          }
          lstm(layer, column);
          const after = layers[i + 1]?.left;
          const data = after?.data ?? head.input, to = after?.index(column) ?? 0;
          spread(data, to, images * out.outputs, out.bias);
          memory.add(data.byteOffset + 4 * to, states.at(column), out, 0, images);
          const from = own.index(column);
          for (let f = 0; f < images * out.outputs; f++) data[to + f] += own.data[from + f];
        });
        return head.logits();
      },
      put(column, image, level) {
        left.data[left.index(column) + image] = 2 * level - 1;
      },
    };
  }

  const MODELS = { GatedPixelCNN: gatedPixelCNN, RowLSTM: rowLSTM };

  // Name -> { shape, data }, of the bytes of a safetensors file.
  function readTensors(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    delete header.__metadata__;
    const read = {
      F16: (at, i) => half(view.getUint16(at + 2 * i, true)),
      F32: (at, i) => view.getFloat32(at + 4 * i, true),
    };
    const tensors = {};
    for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
      const at = 8 + length + data_offsets[0];
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      for (let i = 0; i < data.length; i++) data[i] = read[dtype](at, i);
      tensors[name] = { shape, data };
    }
    return tensors;
  }

  function half(bits) {
    const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * 2 ** -24 * fraction;
    return sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
  }

  // Uniform numbers in (0, 1) of every site of every image, [images, sites]. They belong to an
  // image and a site: what is known, or drawn beside them, does not move them. (sfc32, by Chris
  // Doty-Humphrey, from PractRand.)
  function uniforms(seed, images, sites) {
    const noise = new Float64Array(images * sites);
    for (let image = 0; image < images; image++) {
      let a = seed >>> 0, b = Math.floor(seed / 2 ** 32) >>> 0, c = image, counter = 1;
      for (let i = -16; i < sites; i++) {
        const mixed = (a + b + counter++) >>> 0;
        a = b ^ (b >>> 9);
        b = (c + (c << 3)) >>> 0;
        c = (((c << 21) | (c >>> 11)) + mixed) >>> 0;
        if (i >= 0) noise[image * sites + i] = (mixed + 0.5) / 2 ** 32;
      }
    }
    return noise;
  }

  let memory = null;

  // Draws images row by row: yields { row, levels, probabilities }, both [images, width] of that
  // row. `given` and `known` are [height, width], the same for all images; `noise` is
  // [images, height · width]. A probability is that of ink, at this temperature, given all before;
  // NaN in rows that need not be computed.
  function* complete({ model, tensors, given, known, noise, temperature, images }) {
    const [height, width] = model.image_shape, even = images + (images % 2);
    memory ??= new Memory();
    const network = memory.hold(() => MODELS[model.model](memory, tensors, width, even));
    for (let row = 0; row < height; row++) {
      const at = row * width;
      const levels = new Uint8Array(images * width);
      const probabilities = new Float32Array(images * width).fill(NaN);
      const drawn = known.subarray(at, at + width).includes(0) || network.readsKnownRows;
      network.beginRow(row);
      for (let column = 0; column < width; column++) {
        const logits = drawn ? network.logits(column) : null, site = at + column;
        for (let image = 0; image < images; image++) {
          const u = noise[image * height * width + site], i = image * width + column;
          // u < sigmoid(logit / T); temperature 0 needs no division.
          const ink = drawn && temperature * (Math.log(u) - Math.log1p(-u)) < logits[image];
          levels[i] = known[site] ? given[site] : Number(ink);
          if (drawn) probabilities[i] = sigmoid(logits[image] / Math.max(temperature, 1e-6));
          network.put(column, image, levels[i]);
        }
      }
      yield { row, levels, probabilities };
    }
  }

  return { complete, readTensors, uniforms };
}

if (typeof module !== "undefined") module.exports = sampler();
