/** Worked examples of RULES section 8, and the server's manners. Run with `node --test`. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { BoardType } from './board.ts';
import { fingerprintHash, hashText } from './fingerprint.ts';
import { standardGame } from './game.ts';
import { expandedMoveKey, findMoveByKey, legalListText } from './movekey.ts';
import { formatState, initialState, parseState } from './notation.ts';
import { handleLine } from './server.ts';
import type { State } from './state.ts';
import { applyMove, legalMoves } from './turn.ts';
import { evaluateVictory } from './victory.ts';

interface Setup {
  readonly board?: BoardType;
  readonly players?: number;
  readonly player?: number;
  readonly phase?: string;
  readonly hands?: string;
  readonly eliminated?: string;
  readonly territory?: string;
  readonly tracker?: string;
  /** Turn memory, field 7 of a state string. */
  readonly memory?: string;
  /** Rings bottom to top, as in state strings. */
  readonly stacks?: string;
  readonly markers?: string;
  readonly collapsed?: string;
}

function position(setup: Setup): State {
  const players = setup.players ?? 2;
  const zeros = Array(players).fill('0').join('/');
  const text = [
    `p${setup.player ?? 1}`, setup.phase ?? 'MV', 'A', 'm-', 'c-', 'e-',
    `t${setup.memory ?? '-'}`,
    `h${setup.hands ?? zeros}`, `x${setup.eliminated ?? zeros}`, `g${setup.territory ?? zeros}`,
    `l${setup.tracker ?? `0/${'-'.repeat(players)}/0/0`}`, 'y-',
    `s${setup.stacks ?? ''}`, `k${setup.markers ?? ''}`, `z${setup.collapsed ?? ''}`,
  ].join(';');
  return parseState(standardGame(setup.board ?? 'square8', players), text);
}

function list(state: State): string[] {
  return legalListText(state.game.board, legalMoves(state)).split(' ').filter((key) => key !== '');
}

function play(state: State, ...keys: string[]): State {
  for (const key of keys) {
    const move = findMoveByKey(state.game.board, legalMoves(state), key);
    assert.ok(move !== null, `${key} is not legal among ${list(state).join(' ')}`);
    applyMove(state, move);
  }
  return state;
}

/** Stacks, markers and collapsed cells of a state string. */
function boardOf(state: State): string {
  return formatState(state).split(';').slice(12).join(';');
}

test('hash vectors and the start fingerprint (appendix B)', () => {
  assert.equal(hashText(''), '488bdcb81aee8d83');
  assert.equal(hashText('abc'), '7a91f9f91ac18c8d');
  assert.equal(fingerprintHash(initialState(standardGame('hex8', 2), true)), '64d970e91e560723');
});

test('thresholds (1.4)', () => {
  const rows = [[2, 18, 33, 4], [3, 24, 22, 3], [4, 30, 17, 3]];
  for (const [players, rings, territory, line] of rows) {
    const game = standardGame('square8', players!);
    assert.deepEqual([game.ringThreshold, game.territoryThreshold, game.lineLength], [rings, territory, line]);
  }
  assert.equal(standardGame('hexagonal', 4).territoryThreshold, 118);
});

test('8.1 movement over and onto markers', () => {
  const setup = { stacks: '2,2:11 7,7:2', markers: '3,2:1 4,2:2 5,2:2', collapsed: '7,2:2', territory: '0/1' };
  const east = list(position(setup)).filter((key) => /^M2,2>\d,2$/.test(key) && key[5]! > '2');
  assert.deepEqual(east, ['M2,2>4,2', 'M2,2>5,2', 'M2,2>6,2']);
  const far = play(position(setup), 'M2,2>6,2');
  assert.equal(boardOf(far), 's6,2:11 7,7:2;k2,2:1 4,2:1 5,2:1;z3,2:1 7,2:2');
  const onMarker = play(position(setup), 'M2,2>5,2');
  assert.equal(boardOf(onMarker), 's5,2:1 7,7:2;k2,2:1 4,2:1;z3,2:1 7,2:2');
  assert.equal(onMarker.eliminated[1], 1);
});

test('8.2 capture and chain', () => {
  const state = position({ stacks: '1,1:211 3,3:122' });
  const over = list(state).filter((key) => key.startsWith('C'));
  assert.deepEqual(over, ['C1,1>3,3>4,4', 'C1,1>3,3>5,5', 'C1,1>3,3>6,6', 'C1,1>3,3>7,7']);
  play(state, 'C1,1>3,3>4,4');
  assert.deepEqual(list(state), ['K4,4>3,3>0,0']);
  play(state, 'K4,4>3,3>0,0');
  assert.equal(boardOf(state), 's0,0:22211 3,3:1;k4,4:1;z1,1:1');
  assert.equal(state.phase, 'line_processing');
});

test('8.3 placement', () => {
  const setup = { phase: 'RP', hands: '3/3', stacks: '1,1:222', markers: '1,0:2', collapsed: '0,1:2' };
  const keys = list(position(setup)).filter((key) => /^P[01],[01]\*/.test(key));
  assert.deepEqual(keys, ['P0,0*1', 'P0,0*2', 'P0,0*3', 'P1,1*1']);
});

test('8.4 exact line, payment and the explicit end of the line phase', () => {
  const state = position({ stacks: '3,0:1 6,6:11 7,7:2', markers: '0,0:1 1,0:1 2,0:1' });
  play(state, 'M3,0>3,3');
  assert.deepEqual(list(state), ['L0,0/1,0/2,0/3,0']);
  play(state, 'L0,0/1,0/2,0/3,0');
  assert.deepEqual(list(state), ['E3,3:l', 'E6,6:l']);
  play(state, 'E6,6:l', '0L', '0T');
  assert.equal(formatState(state).split(';').slice(0, 10).join(';'), 'p2;RP;A;m-;c-;e-;t-;h0/0;x1/0;g4/0');
});

test('8.5 overlength line', () => {
  const state = position({ stacks: '4,0:1 7,7:2', markers: '0,0:1 1,0:1 2,0:1 3,0:1' });
  play(state, 'M4,0>4,4');
  const line = '0,0/1,0/2,0/3,0/4,0';
  assert.deepEqual(list(state), [
    `O${line}=0,0/1,0/2,0/3,0`, `O${line}=${line}`, `O${line}=1,0/2,0/3,0/4,0`,
  ]);
  play(state, `O${line}=1,0/2,0/3,0/4,0`);
  assert.equal(state.phase, 'territory_processing');
  assert.equal(boardOf(state), 's4,4:1 7,7:2;k0,0:1;z1,0:1 2,0:1 3,0:1 4,0:1');
});

test('8.6 territory with spreading border markers', () => {
  const state = position({
    phase: 'TP', stacks: '0,0:22 5,5:211 6,3:1 7,7:2', markers: '0,2:1 0,6:2 1,2:1 2,0:1 2,1:1 3,0:2',
  });
  assert.equal(list(state).length, 2);
  play(state, 'T0,0/0,1/1,0/1,1');
  assert.deepEqual([state.territory[1], state.eliminated[1]], [9, 2]);
  assert.deepEqual(list(state), ['E5,5:t', 'E6,3:t']);
  play(state, 'E5,5:t');
  assert.equal(state.eliminated[1], 4);
  assert.equal(formatState(state).slice(0, 5), 'p2;RP');
});

test('8.7 a region bordered by collapsed cells only', () => {
  const regions = (player: number): string[] => {
    const state = position({ player, phase: 'TP', stacks: '0,0:21 5,5:2', collapsed: '0,1:2 1,0:2 1,1:2' });
    return legalMoves(state).map((move) => expandedMoveKey(state.game.board, move)).map((key) => key.slice(0, 4));
  };
  assert.deepEqual(regions(1), ['T0,2', '-T']);
  assert.deepEqual(regions(2), ['T0,0', '-T']);
});

test('8.8 forced elimination ends the game, status completed (T1)', () => {
  const state = position({ phase: 'RP', hands: '0/5', stacks: '3,3:21111111 6,6:2' });
  play(state, '0P', '0M', '0L');
  assert.deepEqual(list(state), ['X3,3']);
  play(state, 'X3,3');
  assert.equal(formatState(state).slice(0, 8), 'p0;GO;C2');
  assert.equal(state.victory?.reason, 'last_player_standing');
});

test('8.9 recovery: line, fallback, strike on the paying stack', () => {
  const line = position({ stacks: '3,1:12 6,6:22', markers: '0,0:1 1,0:1 2,0:1 4,1:1' });
  assert.deepEqual(list(line), ['-R', 'R4,1>3,0:1:3,1']);
  play(line, 'R4,1>3,0:1:3,1');
  assert.equal(boardOf(line), 's3,1:2 6,6:22;k;z0,0:1 1,0:1 2,0:1 3,0:1');
  assert.deepEqual([line.territory[1], line.eliminated[1]], [4, 1]);

  const single = position({ stacks: '3,1:12 6,6:22', markers: '5,5:1' });
  assert.deepEqual(list(single).map((key) => key.split(':')[1] ?? key).sort().join(''), '-RFFFFFFFS');

  const strike = play(position({ stacks: '3,1:12 6,6:22', markers: '4,2:1' }), 'R4,2>3,1:S:3,1');
  assert.equal(boardOf(strike), 's6,6:22;k;z');
  assert.equal(strike.eliminated[1], 2);
});

test('8.10 hex8 with three players: three in a row is no line, four is overlength', () => {
  const stacks = '-3,0:2 0,-3:3 1,0:1';
  const short = play(position({ board: 'hex8', players: 3, stacks, markers: '-1,0:1 0,0:1' }), 'M1,0>1,1');
  assert.deepEqual(list(short), ['0L']);
  const long = position({ board: 'hex8', players: 3, stacks, markers: '-1,0:1 0,0:1 2,0:1' });
  play(long, 'M1,0>1,1');
  assert.equal(list(long).length, 3);
  assert.ok(list(long).every((key) => key.startsWith('O-1,0/0,0/1,0/2,0=')));
});

test('8.11 three exclusive rounds', () => {
  const state = position({
    players: 3, phase: 'TP', stacks: '0,0:33333333 3,3:22 7,7:11111111', tracker: '2/010/2/2',
    memory: 'a',
  });
  play(state, '0T');
  assert.deepEqual([state.over, state.winner, state.victoryBy], [true, 2, 'lps']);
});

test('8.12 stalemate decided by markers', () => {
  const ten = '0,0:1 0,1:1 0,2:1 0,3:1 0,4:1 1,0:2 1,1:2 1,2:2 1,3:2 1,4:2';
  const state = position({ eliminated: '16/16', territory: '5/5', markers: '5,5:1 5,6:1 5,7:1 6,6:2', collapsed: ten });
  const victory = evaluateVictory(state);
  assert.deepEqual([victory?.winner, victory?.reason], [1, 'last_player_standing']);
});

test('8.13 opening with the pie rule', () => {
  const state = initialState(standardGame('square8', 2), true);
  assert.equal(list(state).length, 192);
  play(state, 'P3,3*1', 'M3,3>3,5', '0L', '0T');
  assert.equal(list(state).length, 188);
  play(state, 'SW', 'P6,5*1', 'C6,5>3,5>2,5', '0L', '0T');
  assert.equal(
    formatState(state),
    'p1;RP;A;m-;c-;e-;t-;h17/17;x0/0;g0/0;l2/11/0/0;y21;s2,5:12;k3,3:1 6,5:2;z',
  );
});

test('8.14 recovery axis traps', () => {
  const markers = '1,0:1 2,0:1 3,1:1 3,2:1 3,3:1 4,1:1';
  const two = position({ stacks: '6,6:12', markers });
  assert.ok(!list(two).some((key) => key.startsWith('R4,1>3,0')));
  const three = (): State => position({ players: 3, stacks: '6,6:12', markers });
  const slides = list(three()).filter((key) => key.startsWith('R4,1>3,0'));
  assert.deepEqual(slides, ['R4,1>3,0:1:6,6', 'R4,1>3,0:2:3,0/3,1/3,2']);
  const window = play(three(), slides[1]!);
  assert.equal(boardOf(window), 's6,6:12;k3,1:1 3,2:1 3,3:1;z1,0:1 2,0:1 3,0:1');
  assert.equal(window.eliminated[1], 0);
});

test('the server answers bad requests and illegal moves and goes on', () => {
  const kindOf = (line: string): unknown => JSON.parse(handleLine(line)).error.kind;
  assert.equal(kindOf('{'), 'bad_json');
  assert.equal(kindOf('{"op":"fly"}'), 'unknown_op');
  assert.equal(kindOf('{"op":"replay","board":"hex8","players":5,"moves":[]}'), 'bad_request');
  const request = { id: 'a', op: 'replay', board: 'hex8', players: 2, detail: 'hash', moves: ['P0,0*1', 'P0,0*1'] };
  const answer = JSON.parse(handleLine(JSON.stringify(request)));
  assert.deepEqual([answer.id, answer.steps.length, answer.result], ['a', 1, null]);
  assert.deepEqual(answer.illegal, { index: 1, move: 'P0,0*1', player: 1, phase: 'MV', legalCount: 24 });
  const json = { type: 'place_ring', player: 2, to: { x: 0, y: 0, z: 0 }, placementCount: 1 };
  assert.equal(JSON.parse(handleLine(JSON.stringify({ ...request, moves: [json] }))).illegal.index, 0);
});
