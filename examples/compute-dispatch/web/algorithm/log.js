import { AnsiUp } from 'ansi_up';

/** What is kept on the page: the end of a log. The archive of the run has all of it. */
const most = 500_000;

/**
 * The log of a run, in the colours that its program asked for. A carriage return begins the line again, as on a terminal, so that a progress
 * bar is one line.
 */
export function createLog(place) {
  let ansi;
  let length;
  /** The pieces of the line that has no end yet, and whether a carriage return came last. */
  let line;
  let returned;
  const fresh = () => {
    ansi = new AnsiUp();
    ansi.use_classes = true;
    length = 0;
    line = [];
    returned = false;
    place.replaceChildren();
  };
  fresh();

  const show = (stream, text) => {
    const piece = document.createElement('template');
    // Everything but its own tags is escaped by it.
    piece.innerHTML = ansi.ansi_to_html(text);
    const span = document.createElement('span');
    span.className = stream;
    span.append(piece.content);
    place.append(span);
    length += span.textContent.length;
    return span;
  };
  const beginLineAgain = () => {
    for (const piece of line.splice(0)) {
      length -= piece.textContent.length;
      piece.remove();
    }
  };
  /** Shows text between two carriage returns. Its last line stays open. */
  const write = (stream, text) => {
    const end = text.lastIndexOf('\n') + 1;
    if (end > 0) {
      show(stream, text.slice(0, end));
      line = [];
    }
    if (end < text.length) line.push(show(stream, text.slice(end)));
  };

  return {
    clear: fresh,
    append({ stream, text, base64 }) {
      const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
      const read = text ?? new TextDecoder('latin1').decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
      // A carriage return at the end waits for what follows: a line feed ends the line as if it were alone.
      const whole = `${returned ? '\r' : ''}${read}`;
      returned = whole.endsWith('\r');
      for (const [i, part] of (returned ? whole.slice(0, -1) : whole).replaceAll(/\r+\n/g, '\n').split('\r').entries()) {
        if (i > 0) beginLineAgain();
        if (part !== '') write(stream, part);
      }
      while (length > most && place.firstChild) {
        length -= place.firstChild.textContent.length;
        place.firstChild.remove();
      }
      if (atEnd) place.scrollTop = place.scrollHeight;
    },
  };
}
