import { renderMermaidSVG } from 'beautiful-mermaid';
import type { MarkdownRenderer } from 'vitepress';

/** Colours are the page's own, so that a drawing follows its light and dark. */
const colours = {
  bg: 'var(--vp-c-bg)',
  fg: 'var(--vp-c-text-1)',
  line: 'var(--vp-c-text-3)',
  accent: 'var(--vp-c-brand-1)',
  muted: 'var(--vp-c-text-2)',
  surface: 'var(--vp-c-bg-soft)',
  border: 'var(--vp-c-border)',
  transparent: true,
};

/** Draws Mermaid blocks when the page is built: nothing of Mermaid reaches a reader. A block that can't be drawn fails the build. */
export function mermaid(md: MarkdownRenderer): void {
  const { fence } = md.renderer.rules;
  md.renderer.rules.fence = (tokens, i, options, env, self) => {
    const token = tokens[i];
    if (token?.info.trim() !== 'mermaid') return fence?.(tokens, i, options, env, self) ?? '';
    const svg = renderMermaidSVG(token.content, colours)
      // A page makes no request to anybody else.
      .replaceAll(/@import url\([^)]*\);?/g, '')
      .replaceAll(/font-family:[^;}"]*/g, 'font-family: inherit')
      .replaceAll(/font-family="[^"]*"/g, 'font-family="inherit"');
    if (/https?:\/\/(?!www\.w3\.org)/.test(svg)) throw new Error(`A drawing asks another host for something: ${token.content}`);
    // As a string: a template would lose the style element that the drawing brings.
    return `<div class="drawing" v-html="${md.utils.escapeHtml(JSON.stringify(svg))}"></div>\n`;
  };
}
