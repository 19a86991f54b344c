import { inBothModes } from '@baton/testkit/modes';
import { handles } from './handles.suite.ts';
import { runs } from './runs.suite.ts';
import { workflows } from './workflows.suite.ts';

inBothModes({ tasksModule: new URL('./workflows.tasks.ts', import.meta.url) }, (stack) => {
  workflows(stack);
  runs(stack);
  handles(stack);
});
