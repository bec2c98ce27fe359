// Loaded before the service (`--import`), to prove that the storm sees a broken fence.
import { testHook } from '../src/power/store-events.ts';

testHook.fenceOff = true;
