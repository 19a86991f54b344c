import { inBothModes } from '@baton/testkit/modes';
import { functions } from './functions.suite.ts';

inBothModes({ tasksModule: new URL('./functions.ts', import.meta.url), slots: 2 }, functions);
