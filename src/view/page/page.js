// A network that folds and unfolds. What is seen of it (scene), where that lies (lay) and how it is drawn (draw) are what
// scene.rs, layout.rs and svg.rs do for the other formats; only the layout inside one box is dagre's.
(() => {
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const items = data.items.map((item, id) => ({marks: [], kind: '', shape: '', ...item, id, children: []}));
for (const item of items) if (item.parent != null) items[item.parent].children.push(item.id);
const layers = data.layers;
const ofLayer = [];
for (const item of items) if (item.layer != null) ofLayer[item.layer] = item.id;
const open = new Set(data.open);
// runs whose places are drawn one by one
const split = new Set(data.each ? items.filter(item => item.form === 'run').map(item => item.id) : []);
// no more boxes are laid out at once
const MOST = 3000;
const PAD = 9, HEADER = 22, MARGIN = 12, BELOW_HEAD = 14, ABOVE_END = 15, APART = 22, LANE = 12, BELOW = 26, HOLD = 10000, LABEL = 9;
const SIZE = {h: 12, p: 11, s: 10}, HIGH = {h: 16, p: 14, s: 13};

const escaped = text => String(text).replace(/[&<>"']/g, c => '&#' + c.charCodeAt(0) + ';');
const number = value => Math.round(value * 10) / 10;
const pen = document.createElement('canvas').getContext('2d');
const widths = new Map();
function width(text, size, bold) {
  const key = size + (bold ? 'b' : 'n') + text;
  if (!widths.has(key)) {
    pen.font = `${bold ? 'bold ' : ''}${size}px Helvetica,Arial,"Liberation Sans",sans-serif`;
    widths.set(key, pen.measureText(text).width + 1);
  }
  return widths.get(key);
}
const wide = (style, text) => width(text, SIZE[style], style === 'h');
const tagWidth = tag => width(tag, 9, true) + 10;

// ---- what is seen

const isLone = item => item.form === 'run' && !split.has(item.id);
const inside = id => isLone(items[id]) ? items[items[id].children[0]].children : items[id].children;
const isOpen = id => open.has(id) && items[id].children.length > 0;

function leaves(id, found = []) {
  const stack = [id];
  while (stack.length) {
    const item = items[stack.pop()];
    if (item.layer != null) found.push(item.id);
    for (let at = item.children.length - 1; at >= 0; at--) stack.push(item.children[at]);
  }
  return found;
}

// where the first of equal neighbours stands for all: the item that is drawn for each
function firsts() {
  const first = items.map(item => item.id);
  for (const item of items) {
    if (!isLone(item) || !isOpen(item.id)) continue;
    const shown = leaves(item.children[0]);
    for (const other of item.children.slice(1)) leaves(other).forEach((own, at) => { if (first[own] === own) first[own] = shown[at]; });
  }
  return first.map(function root(at) { while (first[at] !== at) at = first[at]; return at; });
}

function chain(id) {
  const up = [];
  for (let at = id; at != null; at = items[at].parent) up.push(at);
  up.reverse();
  const seen = [];
  let skip = false;
  for (const at of up) {
    if (!skip) seen.push(at);
    if (!isOpen(at) && !skip) break;
    // the first of equal neighbours has the run's box
    skip = !skip && isLone(items[at]);
  }
  return seen;
}

function betweenEquals(from, to) {
  const above = new Set();
  for (let at = from; at != null; at = items[at].parent) above.add(at);
  let at = to;
  while (!above.has(at)) at = items[at].parent;
  return isLone(items[at]);
}

function scene() {
  const frames = new Map(), first = firsts(), labelled = new Set(), chains = new Map();
  const stack = [0];
  while (stack.length) {
    const id = stack.pop(), boxes = inside(id);
    frames.set(id, {boxes, ins: new Map(), outs: new Map(), links: new Map()});
    for (let at = boxes.length - 1; at >= 0; at--) if (isOpen(boxes[at])) stack.push(boxes[at]);
  }
  const chainOf = id => { if (!chains.has(id)) chains.set(id, chain(id)); return chains.get(id); };
  const add = (frame, from, to, source, link) => {
    const key = from + '>' + to + '>' + source, own = frame.links.get(key);
    if (!own) { frame.links.set(key, {...link, from, to, source}); return; }
    own.isLabelled ||= link.isLabelled;
    if (link.state === 0) { own.state = 0; own.mark = null; }
  };
  layers.forEach((layer, reader) => {
    for (const [operand, state, mark] of layer.takes) {
      const a = ofLayer[operand], b = ofLayer[reader];
      const from = chainOf(first[a]), to = chainOf(first[b]);
      let fork = 0;
      while (fork < from.length && fork < to.length && from[fork] === to[fork]) fork++;
      if (fork >= from.length || fork >= to.length || betweenEquals(a, b)) continue;
      const source = from[from.length - 1], made = layers[operand];
      const link = {shape: made.shape, isLabelled: false, state, mark};
      for (let at = fork; at + 1 < from.length; at++) {
        const frame = frames.get(from[at]);
        frame.outs.set(source, 0);
        add(frame, from[at + 1], 'out', source, link);
      }
      const taken = made.takes.length ? layers[made.takes[0][0]].shape : null;
      const isNew = (taken !== made.shape || items[source].layer == null) && items[ofLayer[operand]].form !== 'beside';
      const isLabelled = isNew && !labelled.has(source);
      if (isLabelled) labelled.add(source);
      add(frames.get(from[fork - 1]), from[fork], to[fork], source, {...link, isLabelled});
      for (let at = fork; at + 1 < to.length; at++) {
        const frame = frames.get(to[at]);
        frame.ins.set(source, 0);
        add(frame, 'in', to[at + 1], source, link);
      }
    }
  });
  return frames;
}

// ---- where it lies

const cache = new Map();

function lay(frames, id) {
  const frame = frames.get(id), item = items[id];
  if (!frame) {
    let widest = 0, height = 10;
    for (const [style, text] of item.lines) { widest = Math.max(widest, wide(style, text)); height += HIGH[style]; }
    if (item.tag) widest = Math.max(widest, wide('h', item.lines[0][1]) + tagWidth(item.tag) + 6);
    const sides = ['input', 'output', 'beside'].includes(item.form) ? 2 * PAD + 8 : 2 * PAD;
    return {id, x: 0, y: 0, width: Math.ceil(Math.max(48, widest + sides)), height: Math.ceil(height)};
  }
  const boxes = frame.boxes.map(inner => lay(frames, inner));
  const place = new Map(boxes.map((box, at) => [box.id, at]));
  const sizes = boxes.map(box => [box.width, box.height]);
  const ins = new Map(), outs = new Map();
  for (const key of frame.ins.keys()) { ins.set(key, sizes.length); sizes.push([LANE, 0]); }
  for (const key of frame.outs.keys()) { outs.set(key, sizes.length); sizes.push([LANE, 0]); }
  const links = [...frame.links.values()];
  const edges = links.map(link => [
    link.from === 'in' ? ins.get(link.source) : place.get(link.from),
    link.to === 'out' ? outs.get(link.source) : place.get(link.to),
    link.isLabelled ? width(link.shape, LABEL, false) + 6 : 0]);
  const placed = placeFlat(sizes, edges, [...ins.values()], [...outs.values()]);
  const isRoot = item.parent == null;
  const above = isRoot ? 0 : HEADER + BELOW_HEAD, below = isRoot ? 0 : ABOVE_END, sides = isRoot ? 0 : MARGIN;
  let head = isRoot ? 0 : wide('h', item.head) + 2 * PAD + width(item.kind, 10, false) + 10 + (item.tag ? tagWidth(item.tag) + 6 : 0);
  if (item.form === 'run') head += 40;
  const [left, top, right, bottom] = placed.bounds;
  const inner = right - left + 2 * sides, total = Math.ceil(Math.max(inner, head));
  const dx = sides + (total - inner) / 2 - left, dy = above - top;
  const height = Math.ceil(bottom - top + above + below);
  boxes.forEach((box, at) => {
    box.x = placed.centers[at][0] - box.width / 2 + dx;
    box.y = placed.centers[at][1] - box.height / 2 + dy;
  });
  const port = ports => new Map([...ports].map(([key, at]) => [key, placed.centers[at][0] + dx]));
  const own = {id, x: 0, y: 0, width: total, height, boxes, ins: port(ins), outs: port(outs), wires: []};
  links.forEach((link, at) => {
    const way = placed.ways[at], points = way.points.map(([x, y]) => [x + dx, Math.min(height, Math.max(isRoot ? 0 : HEADER - 2, y + dy))]);
    if (link.from !== 'in') {
      const box = boxes[place.get(link.from)];
      if (box.outs && box.outs.has(link.source)) points[0] = [box.x + box.outs.get(link.source), box.y + box.height];
    }
    if (link.to !== 'out') {
      const box = boxes[place.get(link.to)];
      if (box.ins && box.ins.has(link.source)) points[points.length - 1] = [box.x + box.ins.get(link.source), box.y];
    }
    if (link.from === 'in') points.unshift([own.ins.get(link.source), 0]);
    if (link.to === 'out') points.push([own.outs.get(link.source), height]);
    own.wires.push({...link, points, label: way.label && [way.label[0] + dx, way.label[1] + dy]});
  });
  return own;
}

function placeFlat(sizes, edges, ins, outs) {
  const key = JSON.stringify([sizes, edges, ins, outs]);
  if (cache.has(key)) return cache.get(key);
  const graph = new dagre.graphlib.Graph({multigraph: true});
  graph.setGraph({nodesep: APART, edgesep: LANE, ranksep: BELOW});
  sizes.forEach(([width, height], at) => graph.setNode('n' + at, {width, height}));
  edges.forEach(([from, to, text], at) =>
    graph.setEdge('n' + from, 'n' + to, {labelpos: 'c', width: text, height: text ? LABEL + 4 : 0, weight: 1, minlen: 1}, 'e' + at));
  const taken = new Set(edges.map(edge => edge[1])), used = new Set(edges.map(edge => edge[0]));
  const border = (name, ports, has, edge) => {
    if (!ports.length) return;
    graph.setNode(name, {width: 0, height: 0});
    const isPort = new Set(ports);
    sizes.forEach((_, at) => {
      if (isPort.has(at) || !has.has(at)) graph.setEdge(...edge('n' + at), {weight: isPort.has(at) ? HOLD : 0, minlen: 1, width: 0, height: 0}, name);
    });
  };
  border('top', ins, taken, node => ['top', node]);
  border('bottom', outs, used, node => [node, 'bottom']);
  dagre.layout(graph);
  const centers = sizes.map((_, at) => { const node = graph.node('n' + at); return [node.x, node.y]; });
  const rows = [];
  for (const at of [...centers.keys()].sort((a, b) => centers[a][1] - centers[b][1])) {
    const last = rows[rows.length - 1];
    if (last && Math.abs(last[0] - centers[at][1]) < .5) last[1] = Math.max(last[1], sizes[at][1]);
    else rows.push([centers[at][1], sizes[at][1]]);
  }
  let bounds = sizes.length ? [Infinity, Infinity, -Infinity, -Infinity] : [0, 0, 0, 0];
  const cover = (left, top, right, bottom) => {
    bounds = [Math.min(bounds[0], left), Math.min(bounds[1], top), Math.max(bounds[2], right), Math.max(bounds[3], bottom)];
  };
  const isPort = new Set([...ins, ...outs]);
  sizes.forEach(([w, h], at) => isPort.has(at) || cover(centers[at][0] - w / 2, centers[at][1] - h / 2, centers[at][0] + w / 2, centers[at][1] + h / 2));
  const ways = edges.map(([from, to, text], at) => {
    const laid = graph.edge('n' + from, 'n' + to, 'e' + at);
    const bends = (laid.points || []).map(point => [point.x, point.y]);
    const points = lanes(rows, bends, centers[from], sizes[from], centers[to], sizes[to]);
    for (const [x] of points) cover(x - 3, Infinity, x + 3, -Infinity);
    const label = text ? [laid.x ?? points[0][0], laid.y ?? points[0][1]] : null;
    if (label) cover(label[0] - text / 2, label[1] - LABEL / 2, label[0] + text / 2, label[1] + LABEL / 2);
    return {points, label};
  });
  const placed = {centers, ways, bounds};
  if (cache.size > 4000) cache.clear();
  cache.set(key, placed);
  return placed;
}

// straight down through every row that it passes, slanting between rows alone
function lanes(rows, bends, from, fromSize, to, toSize) {
  const isDown = from[1] <= to[1], inner = bends.slice(1, -1);
  const border = ([x, y], [w, h], isLower, toward) => {
    const room = Math.max(0, w / 2 - 8);
    return [x + Math.min(room, Math.max(-room, toward - x)) * .5, y + (isLower ? h / 2 : -h / 2)];
  };
  let points = [border(from, fromSize, isDown, inner.length ? inner[0][0] : to[0])];
  for (const [x, y] of inner) {
    const row = rows.find(([middle, height]) => Math.abs(middle - y) < .5 && height > 1);
    if (!row) { points.push([x, y]); continue; }
    const ends = [row[0] - row[1] / 2, row[0] + row[1] / 2];
    if (!isDown) ends.reverse();
    for (const end of ends) points.push([x, end]);
  }
  points.push(border(to, toSize, !isDown, inner.length ? inner[inner.length - 1][0] : from[0]));
  const low = Math.min(points[0][1], points[points.length - 1][1]), high = Math.max(points[0][1], points[points.length - 1][1]);
  points = points.map(([x, y]) => [x, Math.min(high, Math.max(low, y))]);
  points = points.filter(([x, y], at) => !at || Math.abs(x - points[at - 1][0]) >= .1 || Math.abs(y - points[at - 1][1]) >= .1);
  // where it goes straight on there is no bend
  points = points.filter(([x], at) => !at || at + 1 === points.length || Math.abs(points[at - 1][0] - x) > .1 || Math.abs(points[at + 1][0] - x) > .1);
  return points.length > 1 ? points : [points[0], points[0]];
}

// ---- how it is drawn

const at = ([x, y]) => number(x) + ' ' + number(y);

function path(points) {
  let text = 'M' + at(points[0]);
  for (let k = 1; k + 1 < points.length; k++) {
    const corner = points[k];
    const toward = end => {
      const dx = end[0] - corner[0], dy = end[1] - corner[1], length = Math.hypot(dx, dy), cut = Math.min(10, length / 2);
      return length < .01 ? corner : [corner[0] + dx / length * cut, corner[1] + dy / length * cut];
    };
    text += 'L' + at(toward(points[k - 1])) + 'Q' + at(corner) + ' ' + at(toward(points[k + 1]));
  }
  return text + 'L' + at(points[points.length - 1]);
}

function arrow(points) {
  const tip = points[points.length - 1];
  let k = points.length - 1;
  while (k > 0 && Math.hypot(points[k][0] - tip[0], points[k][1] - tip[1]) <= .5) k--;
  const from = points[k], length = Math.hypot(tip[0] - from[0], tip[1] - from[1]) || 1;
  const dx = (tip[0] - from[0]) / length || 0, dy = (tip[1] - from[1]) / length || 1;
  const side = sign => [tip[0] - dx * 6 + sign * dy * 3, tip[1] - dy * 6 - sign * dx * 3];
  return 'M' + at(tip) + 'L' + at(side(1)) + 'L' + at(side(-1)) + 'Z';
}

const colour = mark => data.marks[mark].colour;
const rect = (cls, x, y, w, h, round, more = '') =>
  `<rect class="${cls}" x="${number(x)}" y="${number(y)}" width="${number(w)}" height="${number(h)}" rx="${number(round)}" ${more}/>`;
const text = (cls, x, y, said, more = '') => said ? `<text class="${cls}" x="${number(x)}" y="${number(y)}" ${more}>${escaped(said)}</text>` : '';

function drawBox(box, x0, y0, out) {
  const item = items[box.id], x = x0 + box.x, y = y0 + box.y;
  seen.set(box.id, {x, y, width: box.width, height: box.height});
  const isPainted = item.marks.length && (item.state !== 'same' || (item.layer == null && !box.boxes));
  const line = isPainted ? `style="stroke:${colour(item.marks[item.marks.length - 1])};stroke-width:2"` : '';
  const dashes = item.state === 'removed' ? ' x' : '';
  out.push(`<g class="box${item.state === 'removed' ? ' gone' : ''}" data-id="${box.id}">`);
  if (box.boxes) {
    if (isLone(item)) out.push(rect('c', x + 3, y - 3, box.width, box.height, 6));
    out.push(rect('body c' + dashes, x, y, box.width, box.height, 6, line));
    drawInside(box, x, y, out);
    const head = wide('h', item.head), kind = width(item.kind, 10, false);
    out.push(text('h o', x + PAD, y + HEADER - 7, item.head), text('s o', x + PAD + head + 6, y + HEADER - 7, item.kind));
    if (item.form === 'run') {
      out.push(text('each', x + PAD + head + 12 + kind, y + HEADER - 7, isLone(item) ? 'each' : 'as one', `data-each="${box.id}" role="button"`));
    }
  } else {
    const isRound = ['input', 'output', 'beside'].includes(item.form);
    if (item.form === 'run') out.push(rect('b', x + 3, y - 3, box.width, box.height, 5));
    const family = item.layer == null ? '' : ' ' + layers[item.layer].family;
    out.push(rect('body b' + (isRound ? ' io' : family) + dashes, x, y, box.width, box.height, isRound ? box.height / 2 : 4, line));
    if (item.ms != null && data.slowest > 0) {
      out.push(rect('hot', x, y + box.height - 4, box.width * Math.min(1, item.ms / data.slowest), 4, 0));
    }
    let below = y + 5;
    for (const [style, said] of item.lines) {
      below += HIGH[style];
      if (isRound) out.push(text(style + ' iot', x + box.width / 2, below - 4, said, 'text-anchor="middle"'));
      else out.push(text(style, x + PAD, below - 4, said));
    }
  }
  if (item.tag && item.marks.length) {
    const w = tagWidth(item.tag), left = x + box.width - w - 5;
    out.push(rect('', left, y + 5, w, 13, 6.5, `style="fill:${colour(item.marks[item.marks.length - 1])}"`));
    out.push(text('g', left + w / 2, y + 14.8, item.tag, 'text-anchor="middle"'));
  }
  out.push('</g>');
}

function drawInside(box, x, y, out) {
  for (const inner of box.boxes) drawBox(inner, x, y, out);
  for (const wire of box.wires) {
    const points = wire.points.map(point => [point[0] + x, point[1] + y]);
    const isNew = wire.mark != null && wire.state !== 0;
    const line = isNew ? `style="stroke:${colour(wire.mark)};stroke-width:1.8"` : '';
    const ends = `data-from="${wire.source}" data-to="${wire.to === 'out' ? '' : wire.to}"`;
    out.push(`<path class="l${wire.state === 3 ? ' x' : ''}" d="${path(points)}" ${line} ${ends}><title>${escaped(wire.shape)}</title></path>`);
    // at an unfolded box the line goes on
    if (wire.to !== 'out' && !frames.has(wire.to)) out.push(`<path class="a" d="${arrow(points)}" ${isNew ? `style="fill:${colour(wire.mark)}"` : ''}/>`);
  }
  for (const wire of box.wires) {
    if (!wire.label) continue;
    const w = width(wire.shape, LABEL, false), [lx, ly] = wire.label;
    out.push(rect('halo', x + lx - w / 2 - 1, y + ly - 6, w + 2, 11, 0), text('e', x + lx, y + ly + 3, wire.shape, 'text-anchor="middle"'));
  }
}

// ---- the page

const picture = $('picture'), world = $('world'), tip = $('tip');
let seen = new Map(), size = [1, 1], view = {x: 0, y: 0, scale: 1}, picked = null, hits = new Set(), marked = null, frames = null;

function count() {
  const stack = [0];
  let boxes = 0;
  while (stack.length) {
    const id = stack.pop();
    if (!isOpen(id)) continue;
    const within = inside(id);
    boxes += within.length;
    for (const inner of within) stack.push(inner);
  }
  return boxes;
}

// lays out and draws; `hold` stays where it is on the screen
function render(hold) {
  const before = hold != null && seen.get(hold);
  frames = scene();
  const laid = lay(frames, 0), out = [];
  seen = new Map();
  size = [laid.width, laid.height];
  drawInside(laid, 0, 0, out);
  world.innerHTML = out.join('');
  const after = hold != null && seen.get(hold);
  if (before && after) {
    view.x += (before.x + before.width / 2 - after.x - after.width / 2) * view.scale;
    view.y += (before.y - after.y) * view.scale;
  }
  move();
  paint();
}

function move() {
  world.setAttribute('transform', `translate(${number(view.x)} ${number(view.y)}) scale(${view.scale.toFixed(4)})`);
}

function fit() {
  const {clientWidth: w, clientHeight: h} = picture;
  // a long network is read from its beginning, not shrunk to a thread
  const scale = Math.max(Math.min(1.2, (w - 40) / size[0], (h - 40) / size[1]), Math.min(.9, (w - 40) / size[0]));
  view = {scale, x: (w - size[0] * scale) / 2, y: size[1] * scale < h - 20 ? (h - size[1] * scale) / 2 : 20};
  move();
}

function zoom(by, x = picture.clientWidth / 2, y = picture.clientHeight / 2) {
  const scale = Math.min(4, Math.max(.02, view.scale * by));
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  move();
}

function center(id, isGentle) {
  const box = seen.get(id);
  if (!box) return;
  const {clientWidth: w, clientHeight: h} = picture;
  if (!isGentle && view.scale < .5) view.scale = .8;
  const left = view.x + box.x * view.scale, top = view.y + box.y * view.scale;
  const right = left + box.width * view.scale, bottom = top + box.height * view.scale;
  if (!isGentle || left < 20 || right > w - 20) view.x = w / 2 - (box.x + box.width / 2) * view.scale;
  if (!isGentle || top < 20 || bottom > h - 20) {
    view.y = Math.max(h / 2 - (box.y + box.height / 2) * view.scale, box.height * view.scale > h - 40 ? 20 - box.y * view.scale : -Infinity);
  }
  move();
}

function paint() {
  for (const box of world.querySelectorAll('.box')) {
    const id = +box.dataset.id, item = items[id];
    box.classList.toggle('picked', id === picked);
    box.classList.toggle('hit', hits.has(id));
    box.classList.toggle('dimmed', marked != null && !item.marks.includes(marked) && item.layer != null);
  }
  for (const line of world.querySelectorAll('.near')) line.classList.remove('near');
  if (picked != null) for (const line of world.querySelectorAll(`[data-from="${picked}"],[data-to="${picked}"]`)) line.classList.add('near');
}

function toggle(id) {
  const item = items[id];
  if (!item.children.length || item.parent == null) return;
  if (open.has(id)) open.delete(id);
  else unfold(id);
  if (count() > MOST) open.delete(id);
  render(id);
}

function unfold(id) {
  open.add(id);
  // with equal neighbours goes the first
  if (isLone(items[id])) open.add(items[id].children[0]);
}

// unfolds all around an item, so that it is seen; what stands for it, where an equal one does
function reveal(id) {
  const above = [];
  for (let at = items[id].parent; at != null; at = items[at].parent) above.push(at);
  for (const at of above.reverse()) {
    unfold(at);
    const child = above.concat(id).find(other => items[other].parent === at);
    if (isLone(items[at]) && child !== items[at].children[0]) split.add(at);
  }
}

function pick(id, isShown = true) {
  picked = id;
  if (id != null && !seen.has(id)) { reveal(id); render(); }
  paint();
  if (isShown && id != null) center(id, true);
  details();
}

const commas = value => value.toLocaleString('en-US');

function details() {
  const own = $('details');
  if (picked == null) { own.innerHTML = ''; return; }
  const item = items[picked], layer = item.layer == null ? null : layers[item.layer], rows = [];
  const row = (name, value) => { if (value) rows.push(`<tr><td>${name}</td><td>${value}</td></tr>`); };
  if (layer) row('op', `<code>${escaped(layer.text)}</code>`);
  else row('is', escaped((item.kind ? item.kind + ', ' : '') + commas(item.layers) + (item.layers === 1 ? ' layer' : ' layers')));
  if (layer) row('takes', layer.takes.filter(take => take[1] !== 3).map(take => escaped(layers[take[0]].shape)).join('<br>'));
  row('output', escaped(item.shape));
  if (item.form === 'run') row('places', String(item.children.length));
  if (item.parameters) row('parameters', commas(item.parameters));
  if (item.macs) row('multiply-adds', commas(item.macs));
  if (item.ms != null) row('time', item.ms.toFixed(3) + ' ms');
  if (layer && layer.was) row('was', escaped(layer.was));
  row(data.subject === 'difference' ? 'differs' : 'edits', item.marks.map(mark => `<span style="color:${colour(mark)}">${escaped(data.marks[mark].name)}</span>`).join(', '));
  let text = `<h2>${escaped(item.place || item.label)}</h2><table>${rows.join('')}</table>`;
  if (layer && layer.keys.length) {
    const keyed = layer.keys.map(([name, shape, fate]) => `<tr><td><code>${escaped(name)}</code></td><td>${escaped(shape)}<br><span class="dim">${escaped(fate)}</span></td></tr>`);
    text += `<h2 style="margin-top:10px">tensors</h2><table id="keyed">${keyed.join('')}</table>`;
  }
  own.innerHTML = text;
}

function levels(change) {
  // the deepest level at which everything is unfolded
  const depth = id => { let deep = 0; for (let at = items[id].parent; at != null; at = items[at].parent) deep += items[at].form === 'run' ? 0 : 1; return deep; };
  const holders = items.filter(item => item.children.length && item.parent != null);
  const deepest = Math.max(0, ...holders.map(item => depth(item.id)));
  let level = 0;
  while (level < deepest && holders.every(item => depth(item.id) > level + 1 || open.has(item.id))) level++;
  to(Math.max(0, Math.min(deepest, level + change)), depth);
}

function to(level, depth) {
  const before = new Set(open);
  for (const item of items) {
    if (!item.children.length || item.parent == null) continue;
    if (depth(item.id) <= level) open.add(item.id);
    else open.delete(item.id);
  }
  if (count() > MOST) {
    open.clear();
    before.forEach(id => open.add(id));
    say(`There would be more than ${commas(MOST)} boxes; unfold the parts that you look for.`);
    return;
  }
  render();
  fit();
}

function say(line) {
  $('details').innerHTML = `<p>${escaped(line)}</p>`;
}

// ---- search and edits

let found = [], now = -1;

function search(words) {
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  hits = new Set();
  found = [];
  now = -1;
  if (parts.length) {
    for (const item of items) {
      if (item.parent == null) continue;
      const said = [item.place || item.label, item.kind, item.layer == null ? '' : layers[item.layer].text, ...item.marks.map(mark => data.marks[mark].name)].join(' ').toLowerCase();
      if (parts.every(part => said.includes(part))) { found.push(item.id); hits.add(item.id); }
    }
  }
  const shown = found.slice(0, 200).map((id, at) => `<li data-at="${at}">${escaped(items[id].place || items[id].label)} <span class="dim">${escaped(items[id].kind)}</span></li>`);
  $('found').innerHTML = parts.length && !found.length ? '<li class="dim">nothing</li>' : shown.join('') + (found.length > 200 ? `<li class="dim">and ${commas(found.length - 200)} more</li>` : '');
  paint();
}

function go(at) {
  if (!found.length) return;
  now = (at + found.length) % found.length;
  for (const entry of $('found').children) entry.classList.toggle('now', +entry.dataset.at === now);
  const entry = $('found').children[now];
  if (entry) entry.scrollIntoView({block: 'nearest'});
  pick(found[now]);
}

function mark(which) {
  marked = marked === which ? null : which;
  [...$('marks').querySelectorAll('li')].forEach((entry, at) => entry.classList.toggle('now', at === marked));
  if (marked != null) {
    const touched = items.filter(item => item.layer != null && item.marks.includes(marked));
    const before = new Set(open);
    for (const item of touched) for (let at = item.parent; at != null; at = items[at].parent) unfold(at);
    if (count() > MOST) { open.clear(); before.forEach(id => open.add(id)); }
    render();
    const first = touched.find(item => seen.has(item.id));
    if (first) center(first.id, false);
  }
  paint();
}

// ---- keys and pointers

function beside(by) {
  const holder = [...frames].find(([, frame]) => frame.boxes.includes(picked));
  if (!holder) return;
  const boxes = holder[1].boxes, at = boxes.indexOf(picked) + by;
  if (boxes[at] != null) pick(boxes[at]);
}

function along(isDown) {
  if (isDown && isOpen(picked)) { pick(frames.get(picked).boxes[0]); return; }
  for (const frame of frames.values()) {
    for (const link of frame.links.values()) {
      const [near, far] = isDown ? [link.from, link.to] : [link.to, link.from];
      if (near === picked && typeof far === 'number') { pick(far); return; }
    }
  }
  // at the border: the box around
  const holder = [...frames].find(([id, frame]) => id !== 0 && frame.boxes.includes(picked));
  if (!holder) return;
  if (!isDown) { pick(holder[0]); return; }
  picked = holder[0];
  for (const frame of frames.values()) for (const link of frame.links.values()) if (link.from === picked && typeof link.to === 'number') { pick(link.to); return; }
  pick(holder[0]);
}

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('keys').open) return;
  if (event.target === $('search')) {
    if (event.key === 'Enter') { event.preventDefault(); go(now + (event.shiftKey ? -1 : 1)); }
    if (event.key === 'Escape') { $('search').value = ''; search(''); picture.focus(); }
    return;
  }
  if (event.target.tagName === 'BUTTON' && (event.key === 'Enter' || event.key === ' ')) return;
  const first = frames.get(0).boxes[0];
  const keys = {
    '/': () => $('search').focus(),
    Enter: () => picked != null && toggle(picked), ' ': () => picked != null && toggle(picked),
    ArrowDown: () => picked == null ? pick(first) : along(true), ArrowUp: () => picked == null ? pick(first) : along(false),
    ArrowLeft: () => picked == null ? pick(first) : beside(-1), ArrowRight: () => picked == null ? pick(first) : beside(1),
    Backspace: () => { const holder = [...frames].find(([, frame]) => frame.boxes.includes(picked)); if (holder && holder[0] !== 0) pick(holder[0]); },
    Escape: () => { pick(null); if (marked != null) mark(marked); },
    e: () => data.marks.length && mark(marked == null ? 0 : (marked + 1) % data.marks.length),
    '[': () => levels(-1), ']': () => levels(1), 0: () => $('none').click(), 9: () => $('all').click(),
    f: fit, '+': () => zoom(1.25), '=': () => zoom(1.25), '-': () => zoom(.8), '?': () => $('help').click(),
  };
  if (Object.hasOwn(keys, event.key)) { event.preventDefault(); keys[event.key](); }
});

let drag = null, dragged = false;
picture.addEventListener('pointerdown', event => {
  if (event.button !== 0) return;
  drag = {x: event.clientX - view.x, y: event.clientY - view.y};
  dragged = false;
});
picture.addEventListener('pointermove', event => {
  if (drag) {
    const x = event.clientX - drag.x, y = event.clientY - drag.y;
    if (!dragged && Math.hypot(x - view.x, y - view.y) < 4) return;
    if (!dragged) { dragged = true; picture.setPointerCapture(event.pointerId); picture.classList.add('drag'); }
    view.x = x;
    view.y = y;
    move();
    return;
  }
  hover(event);
});
const drop = () => { drag = null; picture.classList.remove('drag'); };
picture.addEventListener('pointerup', drop);
picture.addEventListener('pointercancel', drop);
picture.addEventListener('pointerleave', () => { tip.hidden = true; });
picture.addEventListener('click', event => {
  if (dragged) return;
  const each = event.target.closest('[data-each]');
  if (each) {
    const id = +each.dataset.each;
    if (split.has(id)) { split.delete(id); unfold(id); } else split.add(id);
    if (count() > MOST) split.delete(id);
    render(id);
    return;
  }
  const box = event.target.closest('.box');
  if (!box) { pick(null); return; }
  const id = +box.dataset.id;
  pick(id, false);
  if (items[id].children.length) toggle(id);
});
picture.addEventListener('wheel', event => {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) {
    const frame = picture.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? .05 : .004)), event.clientX - frame.left, event.clientY - frame.top);
    return;
  }
  const by = event.deltaMode ? 30 : 1;
  view.x -= (event.shiftKey ? event.deltaY : event.deltaX) * by;
  view.y -= (event.shiftKey ? 0 : event.deltaY) * by;
  move();
}, {passive: false});

function hover(event) {
  const box = event.target.closest('.box');
  if (!box) { tip.hidden = true; return; }
  const item = items[+box.dataset.id], layer = item.layer == null ? null : layers[item.layer];
  const lines = [`<b>${escaped(item.place || item.label)}</b>`];
  if (layer && layer.text) lines.push(escaped(layer.text));
  if (layer && layer.was) lines.push('was ' + escaped(layer.was));
  if (item.shape) lines.push(escaped(item.shape));
  if (item.parameters) lines.push(commas(item.parameters) + ' parameters');
  if (item.macs) lines.push(commas(item.macs) + ' multiply-adds');
  if (item.ms != null) lines.push(item.ms.toFixed(3) + ' ms');
  if (item.tag) lines.push(escaped(item.tag));
  tip.innerHTML = lines.join('<br>');
  tip.hidden = false;
  const frame = picture.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX - frame.left + 14, frame.width - tip.offsetWidth - 6)) + 'px';
  tip.style.top = Math.max(4, Math.min(event.clientY - frame.top + 14, frame.height - tip.offsetHeight - 6)) + 'px';
}

$('title').textContent = data.title;
$('figures').textContent = data.figures;
$('search').addEventListener('input', event => search(event.target.value));
$('found').addEventListener('click', event => { const entry = event.target.closest('[data-at]'); if (entry) go(+entry.dataset.at); });
$('less').addEventListener('click', () => levels(-1));
$('more').addEventListener('click', () => levels(1));
$('none').addEventListener('click', () => { open.clear(); open.add(0); render(); fit(); });
$('all').addEventListener('click', () => to(Infinity, () => 0));
$('fit').addEventListener('click', fit);
$('help').addEventListener('click', () => $('keys').showModal());
if (data.marks.length) {
  $('marks').hidden = false;
  $('marks').querySelector('h2').textContent = data.subject === 'difference' ? 'differences' : 'edits';
  const list = $('marks').querySelector('ol');
  list.innerHTML = data.marks.map((said, at) => `<li tabindex="0" role="button" data-at="${at}" style="border-color:${said.colour}"><b>${escaped(said.name)}</b> <code>${escaped(said.text)}</code><br><span class="dim">${escaped(said.result)}</span></li>`).join('');
  list.addEventListener('click', event => { const entry = event.target.closest('li'); if (entry) mark(+entry.dataset.at); });
  list.addEventListener('keydown', event => { if (event.key === 'Enter') { event.stopPropagation(); mark(+event.target.dataset.at); } });
}
window.addEventListener('resize', move);
window.addEventListener('beforeprint', () => {
  picture.setAttribute('viewBox', `-8 -8 ${size[0] + 16} ${size[1] + 16}`);
  world.removeAttribute('transform');
});
window.addEventListener('afterprint', () => { picture.removeAttribute('viewBox'); move(); });
open.add(0);
render();
fit();
})();
