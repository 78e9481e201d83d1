// Search where pages are opened from the disk: browsers start no Worker there, so its script runs in a frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      const begin = () => {
        const inner = frame.contentWindow;
        inner.postMessage = (data) => {
          const event = new MessageEvent("message", { data });
          this.dispatchEvent(event);
          if (this.onmessage) this.onmessage(event);
        };
        inner.importScripts = () => {};
        const script = frame.contentDocument.createElement("script");
        script.src = url;
        script.onload = () => { this.inner = inner; this.waiting.splice(0).forEach((data) => this.postMessage(data)); };
        frame.contentDocument.head.append(script);
      };
      const add = () => { document.body.append(frame); begin(); };
      if (document.body) add(); else document.addEventListener("DOMContentLoaded", add);
    }
    postMessage(data) {
      if (!this.inner) { this.waiting.push(data); return; }
      this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data }));
    }
    terminate() {}
  };
}
