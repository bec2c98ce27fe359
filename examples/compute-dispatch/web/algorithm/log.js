import { AnsiUp } from 'ansi_up';

/** What is kept on the page: the end of a log. The archive of the run has all of it. */
const most = 500_000;

/** The log of a run, in the colours that its program asked for. */
export function createLog(place) {
  let ansi = new AnsiUp();
  let length = 0;
  const fresh = () => {
    ansi = new AnsiUp();
    ansi.use_classes = true;
    length = 0;
    place.replaceChildren();
  };
  fresh();
  return {
    clear: fresh,
    append({ stream, text, base64 }) {
      const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
      const piece = document.createElement('template');
      // Everything but its own tags is escaped by it.
      piece.innerHTML = ansi.ansi_to_html(text ?? new TextDecoder('latin1').decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))));
      const span = document.createElement('span');
      span.className = stream;
      span.append(piece.content);
      place.append(span);
      length += span.textContent.length;
      while (length > most && place.firstChild) {
        length -= place.firstChild.textContent.length;
        place.firstChild.remove();
      }
      if (atEnd) place.scrollTop = place.scrollHeight;
    },
  };
}
