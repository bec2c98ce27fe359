// Builds the page ahead of time, for images whose file system can't be written.
import { buildPage } from './page.ts';

console.log(`The page is in ${await buildPage()}.`);
