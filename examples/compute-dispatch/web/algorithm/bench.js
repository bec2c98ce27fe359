// What the parts of the bench share.
export const byId = (id) => document.getElementById(id);

/** The chosen task, the open file, whether its text is edited, and the editor. */
export const now = { task: undefined, file: undefined, dirty: false, editor: undefined };

let turn = 0;
/** Begins another task. An answer that belongs to an earlier turn is dropped. */
export const nextTurn = () => ++turn;
export const isTurn = (wanted) => wanted === turn;
export const thisTurn = () => turn;

/** Does it, and says what is wrong if it does not work. Only the latest work is spoken of. */
let told = 0;
export async function tell(work) {
  const mine = ++told;
  const answer = byId('algorithm-answer');
  const say = (text, className) => {
    if (mine === told) Object.assign(answer, { textContent: text, className });
  };
  try {
    say('', '');
    const said = await work();
    say(typeof said === 'string' ? said : '', '');
  } catch (error) {
    say(error.message, 'error');
  }
}

export function setDirty(dirty) {
  now.dirty = dirty;
  byId('file-state').textContent = dirty ? 'not saved' : '';
}
