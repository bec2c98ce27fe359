/** Asks before something is lost. Returns `true` if the visitor goes on; Escape and Keep it mean `false`. */
export function askFirst(question: string, goOn: string): Promise<boolean> {
  const dialog = document.createElement('dialog');
  const form = Object.assign(document.createElement('form'), { method: 'dialog' });
  const text = Object.assign(document.createElement('p'), { textContent: question, id: 'question' });
  const button = (value: string, label: string, className: string): HTMLButtonElement =>
    Object.assign(document.createElement('button'), { value, textContent: label, className });
  const tools = Object.assign(document.createElement('div'), { className: 'tools' });
  tools.append(button('no', 'Keep it', 'quiet'), button('yes', goOn, 'danger'));
  form.append(text, tools);
  dialog.append(form);
  dialog.setAttribute('aria-labelledby', 'question');
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
  });
}
