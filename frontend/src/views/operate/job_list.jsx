import { slurm } from '../../data/services.js';

/**
 * Consumers on Slurm and runs that are analysed again, with their last log lines.
 * @param {{jobs: import('../../operate/desk.js').JobsState | null,
 *   act: (action: string, asked: Record<string, any>) => void}} props
 */
export function JobList({ jobs, act }) {
  if (!jobs) return <p class="faint">Loading…</p>;
  const tasks = slurm(jobs.slurm);
  return (
    <div class="jobs" data-testid="jobs">
      {tasks.length ? (
        <>
          <ul>
            {tasks.map((task) => (
              <li
                key={task.name} data-testid="task" data-state={task.state}
                data-partitions={task.partitions}
              >
                <b>{task.name}</b>: {task.summary} {task.problem && <em>{task.problem}</em>}
              </li>
            ))}
          </ul>
          {tasks.some((task) => !task.ended) && (
            <button onClick={() => act('cancel', {})}>Cancel the consumers</button>
          )}
        </>
      ) : (
        <p class="faint">no consumers were submitted from here</p>
      )}
      {jobs.logs.map((log) => (
        <Log key={log.name} name={`log of ${log.name}`} lines={log.lines} />
      ))}
      {jobs.reprocessing.map((one) => (
        <div key={one.number} data-testid="reprocessing" data-state={one.state}>
          <p>
            Run {one.raw_uid.slice(0, 8)} with version {one.version}: <b>{one.state}</b>{' '}
            {one.state === 'running' && (
              <button onClick={() => act('stop', { number: one.number })}>Stop</button>
            )}
          </p>
          <Log name="log" lines={one.lines} />
        </div>
      ))}
    </div>
  );
}

/** @param {{name: string, lines: string[]}} props */
function Log({ name, lines }) {
  return (
    <details>
      <summary>{name}</summary>
      <pre tabIndex={0}>{lines.join('\n')}</pre>
    </details>
  );
}
