"use strict";
// Sends the microphone's samples to the page in chunks of 20 ms.
registerProcessor("pieces", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Float32Array(Math.round(sampleRate / 50));
    this.count = 0;
  }
  process(inputs) {
    const channel = inputs[0][0];
    if (channel) for (const value of channel) {
      this.held[this.count++] = value;
      if (this.count === this.held.length) {
        this.port.postMessage(this.held.slice());
        this.count = 0;
      }
    }
    return true;
  }
});
