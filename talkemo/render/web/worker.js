"use strict";
// Sends the microphone's audio to the server and the answered frames to the page. It is a worker, so drawing does not delay
// it. Clock: seconds of system time.
const clock = () => (performance.timeOrigin + performance.now()) / 1000;
const pieces = [];
let busy = false, heard = 0, rate = 0, row = 0, first = Infinity, late = [], shown = 0;
onmessage = event => {
  const told = event.data;
  if (told.port) {
    [rate, row] = [told.rate, told.row];
    told.port.onmessage = piece => { pieces.push(piece.data); send(); };
  }
  shown = told.shown || shown;
};
async function send() {
  if (busy || !pieces.length) return;
  busy = true;
  const taken = pieces.splice(0), body = new Float32Array(taken.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of taken) { body.set(piece, at); at += piece.length; }
  heard += body.length / rate;
  first = Math.min(first, clock() - heard);  // start of the audio: the earliest estimate
  const latest = late.reduce((most, [, value]) => Math.max(most, value), 0);
  try {
    const answer = await fetch(`sound?${new URLSearchParams({ latency: latest.toFixed(3), shown })}`, { method: "POST", body });
    if (!answer.ok) throw new Error(await answer.text());
    const found = new Float32Array(await answer.arrayBuffer()), now = clock();
    for (let k = 0; k < found.length; k += row) late.push([now, now - first - found[k]]);
    late = late.filter(([when]) => when > now - 3);  // forget old delays
    postMessage({ found, first, late: late.reduce((most, [, value]) => Math.max(most, value), 0) });
  } catch (error) {
    postMessage({ problem: String(error.message || error) });
    return;
  }
  busy = false;
  send();
}
