"use strict";
// Draws a face that can be turned. Speech is linear: positions = rest + sum over coordinates of weight * basis.
// Then the eyeballs rotate about their centres and the head about the neck.
const data = JSON.parse(document.getElementById("data").textContent);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const array = (kind, text) => new kind(bytes(text).buffer);
const rest = array(Float32Array, data.rest), basis = array(Int8Array, data.basis), scale = data.scale;
const faces = array(Uint32Array, data.faces), vertex = array(Uint32Array, data.vertex), place = array(Float32Array, data.place);
// Opaque triangles come first, then those with holes, then veils: what is seen through is drawn last, from back to front.
const [solid, cut] = data.opaque.map(count => 3 * count), veils = faces.slice(cut);
const corners = vertex.length, count = scale.length;
// What goes with the jaw is lowered to the closed bite; bite.open tells how far coordinates open it.
const bite = data.bite && { ...data.bite, rows: array(Uint32Array, data.bite.rows), lowered: array(Float32Array, data.bite.lowered) };
const turning = data.turning && { ...data.turning, share: array(Uint8Array, data.turning.share), balls: data.turning.balls.map(b => ({ rows: array(Uint32Array, b.rows), centre: b.centre })) };
// The mouth behind the lips is darker the closer they are: shadow.share tells the share of three gaps at each of its corners.
const shadow = data.shadow && { ...data.shadow, corners: array(Uint32Array, data.shadow.corners), share: array(Uint8Array, data.shadow.share) };
const shaded = place.slice();
const element = id => document.getElementById(id);
const canvas = element("view");
if (data.name) element("name").textContent = document.title = data.name;

const gl = canvas.getContext("webgl", { antialias: true, alpha: true });
if (!gl || !gl.getExtension("OES_element_index_uint")) {
  element("problem").textContent = "This browser has no WebGL, which the page needs to draw.";
  document.body.dataset.state = "no WebGL";
  throw new Error("no WebGL");
}
function shader(kind, text) {
  const made = gl.createShader(kind);
  gl.shaderSource(made, text);
  gl.compileShader(made);
  if (!gl.getShaderParameter(made, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(made));
  return made;
}
const program = gl.createProgram();
gl.attachShader(program, shader(gl.VERTEX_SHADER, `
  attribute vec3 position, normal; attribute vec2 place;
  uniform mat3 turn; uniform vec3 middle; uniform vec4 lens;
  varying vec3 n; varying vec2 uv;
  void main() {
    vec3 seen = turn * (position - middle);
    n = normalize(turn * normal); uv = place;
    gl_Position = vec4(seen.x * lens.x, seen.y * lens.y, -seen.z * lens.z, lens.w - seen.z);
  }`));
gl.attachShader(program, shader(gl.FRAGMENT_SHADER, `
  precision highp float;
  uniform sampler2D skin; uniform vec4 lights[3]; uniform vec3 softness; uniform vec4 glow, eye, shine; uniform vec2 cornea;
  uniform vec3 sieve;  // least and most opacity of what is drawn, and whether it is opaque then
  varying vec3 n; varying vec2 uv;
  void main() {
    vec4 texel = texture2D(skin, uv);  // RGB is multiplied with the opacity
    if (texel.a < sieve.x || texel.a > sieve.y) discard;
    if (sieve.z > 0.0) texel /= texel.a;
    vec3 m = normalize(n); float dark = 1.0;
    if (m.z < 0.0) { m = -m; if (sieve.x == 0.0) dark = glow.w; }
    vec3 light = vec3(glow.x + glow.y * m.y); float gloss = 0.0;
    for (int k = 0; k < 3; k++) {
      float c = dot(m, lights[k].xyz);
      light += lights[k].w * max((vec3(c) + softness) / (1.0 + softness), 0.0);
      if (c > 0.0) gloss += glow.z * lights[k].w * pow(max(2.0 * c * m.z - lights[k].z, 0.0), 18.0);
    }
    vec3 colour = dark * (texel.rgb * light + texel.a * gloss);
    vec2 off = (uv - eye.xy) * eye.zw * vec2(1.0, -1.0);  // radians from the middle of the iris
    if (eye.z > 0.0 && dark == 1.0 && length(off) < cornea.y)
      colour = mix(colour, vec3(1.0), shine.w * clamp(1.5 - length(m.xy + cornea.x * off - shine.xy) / shine.z, 0.0, 1.0));
    gl_FragColor = vec4(colour, texel.a);
  }`));
gl.linkProgram(program);
gl.useProgram(program);
const uniform = name => gl.getUniformLocation(program, name);
data.lights.forEach((light, k) => gl.uniform4fv(uniform(`lights[${k}]`), light));
gl.uniform3fv(uniform("softness"), data.softness);
gl.uniform4fv(uniform("glow"), data.glow);
gl.uniform4fv(uniform("eye"), data.eye || [0, 0, 0, 0]);
gl.uniform4fv(uniform("shine"), data.catch);
gl.uniform2fv(uniform("cornea"), data.cornea);
function buffer(name, size) {
  const made = gl.createBuffer(), at = gl.getAttribLocation(program, name);
  gl.bindBuffer(gl.ARRAY_BUFFER, made);
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, size, gl.FLOAT, false, 0, 0);
  return made;
}
const positionBuffer = buffer("position", 3), normalBuffer = buffer("normal", 3);
const placeBuffer = buffer("place", 2);
gl.bufferData(gl.ARRAY_BUFFER, place, gl.DYNAMIC_DRAW);
const faceBuffer = gl.createBuffer(), veilBuffer = gl.createBuffer();
gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, faceBuffer);
gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
gl.enable(gl.DEPTH_TEST);
gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

const now = new Float32Array(rest.length), normals = new Float32Array(rest.length);
const drawn = new Float32Array(3 * corners), drawnNormals = new Float32Array(3 * corners), weights = new Float32Array(count);
// Rotate points by a matrix, its nine numbers row by row, about a centre; share(i): how much of it each goes along.
function rotate(rows, centre, m, share) {
  for (let j = 0; j < rows.length; j++) {
    const i = 3 * rows[j], part = share ? share[rows[j]] / 255 : 1;
    if (!part) continue;
    const x = now[i] - centre[0], y = now[i + 1] - centre[1], z = now[i + 2] - centre[2];
    now[i] += part * (m[0] * x + m[1] * y + m[2] * z - x);
    now[i + 1] += part * (m[3] * x + m[4] * y + m[5] * z - y);
    now[i + 2] += part * (m[6] * x + m[7] * y + m[8] * z - z);
  }
}
const every = Uint32Array.from({ length: rest.length / 3 }, (_, i) => i);
// Move texture coordinates of the mouth's corners to darker rows, as far as the lips are closed.
function darken() {
  const [low, high] = shadow.gaps, [x, y, z] = shadow.up;
  const dark = shadow.upper.map((row, j) => {
    const a = 3 * row, b = 3 * shadow.lower[j];
    const open = x * (now[a] - now[b]) + y * (now[a + 1] - now[b + 1]) + z * (now[a + 2] - now[b + 2]) - shadow.closed[j];
    const t = Math.min(1, Math.max(0, (open - low) / (high - low)));
    return shadow.depth / 255 * (1 - t * t * (3 - 2 * t));
  });
  shadow.corners.forEach((k, i) => {
    shaded[2 * k + 1] = place[2 * k + 1] + dark.reduce((sum, part, j) => sum + part * shadow.share[dark.length * i + j], 0);
  });
}
// Lower teeth and tongue to where the jaw is closed, if the coordinates raise them above.
function keepBite(coordinates) {
  const open = bite.open.map(row => row.reduce((sum, part, k) => sum + part * coordinates[k], 0));
  const lacking = -Math.min(...open);
  if (lacking > 0) bite.rows.forEach((row, j) => {
    for (let i = 0; i < 3; i++) now[3 * row + i] += lacking * bite.lowered[3 * j + i];
  });
}
// Give the face a pose: coordinates, and rotations of the head and of the eyes in it, or null.
function pose(coordinates, head, eyes) {
  for (let k = 0; k < count; k++) weights[k] = coordinates[k] * scale[k];
  now.set(rest);
  for (let k = 0; k < count; k++) {
    const weight = weights[k], first = k * rest.length;
    if (weight) for (let i = 0; i < rest.length; i++) now[i] += weight * basis[first + i];
  }
  if (bite) keepBite(coordinates);
  if (shadow) darken();
  if (turning && eyes) for (const ball of turning.balls) rotate(ball.rows, ball.centre, eyes, null);
  if (turning && head) rotate(every, turning.pivot, head, turning.share);
  normals.fill(0);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * vertex[faces[f]], b = 3 * vertex[faces[f + 1]], c = 3 * vertex[faces[f + 2]];
    const ux = now[b] - now[a], uy = now[b + 1] - now[a + 1], uz = now[b + 2] - now[a + 2];
    const vx = now[c] - now[a], vy = now[c + 1] - now[a + 1], vz = now[c + 2] - now[a + 2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    const share = 1 / (Math.hypot(x, y, z) + 1e-30);
    for (const i of [a, b, c]) { normals[i] += share * x; normals[i + 1] += share * y; normals[i + 2] += share * z; }
  }
  for (let k = 0; k < corners; k++) for (let i = 0; i < 3; i++) {
    drawn[3 * k + i] = now[3 * vertex[k] + i];
    drawnNormals[3 * k + i] = normals[3 * vertex[k] + i];
  }
}
let yaw = 0, pitch = 0, zoom = 1, wanted = true;
function draw() {
  const ratio = window.devicePixelRatio || 1, w = Math.round(canvas.clientWidth * ratio), h = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  gl.viewport(0, 0, w, h);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch), F = data.facing;
  const view = [[cy, 0, -sy], [-sp * sy, cp, -sp * cy], [cp * sy, sp, cp * cy]];
  const turn = view.map(row => [0, 1, 2].map(j => row[0] * F[0][j] + row[1] * F[1][j] + row[2] * F[2][j]));
  gl.uniformMatrix3fv(uniform("turn"), false, [0, 1, 2].flatMap(j => [turn[0][j], turn[1][j], turn[2][j]]));
  gl.uniform3fv(uniform("middle"), data.middle);
  const half = data.half / zoom * Math.max(1, h / w), distance = 7 * half;
  gl.uniform4fv(uniform("lens"), [distance / half * h / w, distance / half, 0.2, distance]);
  gl.bindBuffer(gl.ARRAY_BUFFER, positionBuffer);
  gl.bufferData(gl.ARRAY_BUFFER, drawn, gl.DYNAMIC_DRAW);
  gl.bindBuffer(gl.ARRAY_BUFFER, normalBuffer);
  gl.bufferData(gl.ARRAY_BUFFER, drawnNormals, gl.DYNAMIC_DRAW);
  if (shadow) {
    gl.bindBuffer(gl.ARRAY_BUFFER, placeBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, shaded, gl.DYNAMIC_DRAW);
  }
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, faceBuffer);
  drawPart(0, solid, [0, 2, 1]);
  drawPart(solid, cut, [0.5, 2, 1]);
  drawPart(cut, faces.length, [0.98, 2, 1]);
  if (!veils.length) return;
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, veilBuffer);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, backToFront(turn[2]), gl.DYNAMIC_DRAW);
  gl.enable(gl.BLEND);
  gl.depthMask(false);
  drawPart(0, veils.length, [0.01, 0.98, 0]);
  gl.depthMask(true);
  gl.disable(gl.BLEND);
}
function drawPart(first, last, sieve) {
  gl.uniform3fv(uniform("sieve"), sieve);
  if (last > first) gl.drawElements(gl.TRIANGLES, last - first, gl.UNSIGNED_INT, 4 * first);
}
// The veils' triangles, the farthest first; towards: the direction to the camera.
function backToFront(towards) {
  const depth = new Float32Array(veils.length / 3);
  veils.forEach((corner, i) => { for (let k = 0; k < 3; k++) depth[Math.floor(i / 3)] += towards[k] * drawn[3 * corner + k]; });
  const order = Array.from(depth.keys()).sort((a, b) => depth[a] - depth[b]);
  return Uint32Array.from(order.flatMap(f => [veils[3 * f], veils[3 * f + 1], veils[3 * f + 2]]));
}
// One pointer turns the face; two zoom. A page may set viewChanged to learn of it.
let viewChanged = () => {};
const pointers = new Map();
function zoomBy(factor) { zoom = Math.min(Math.max(zoom * factor, 0.4), 6); wanted = true; viewChanged(); }
function spread() {
  const [a, b] = [...pointers.values()];
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}
canvas.onpointerdown = event => {
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  try { canvas.setPointerCapture(event.pointerId); } catch { /* the pointer is gone already */ }
};
canvas.onpointermove = event => {
  const held = pointers.get(event.pointerId);
  if (!held) return;
  const before = pointers.size === 2 ? spread() : 0;
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (before) { zoomBy(spread() / before); return; }
  if (pointers.size > 1) return;
  yaw -= (event.clientX - held[0]) * 0.008;
  pitch = Math.min(Math.max(pitch + (event.clientY - held[1]) * 0.008, -1.2), 1.2);
  wanted = true;
  viewChanged();
};
canvas.onpointerup = canvas.onpointercancel = event => { pointers.delete(event.pointerId); };
canvas.onwheel = event => { event.preventDefault(); zoomBy(Math.exp(-event.deltaY * 0.001)); };
canvas.ondblclick = () => { yaw = pitch = 0; zoom = 1; wanted = true; viewChanged(); };
window.onresize = () => { wanted = true; };

const skin = new Image();
skin.onload = () => {
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, true);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, skin);
  for (const [name, value] of [[gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE], [gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_MAG_FILTER, gl.LINEAR]]) gl.texParameteri(gl.TEXTURE_2D, name, value);
  begin();
};
skin.src = data.skin;
