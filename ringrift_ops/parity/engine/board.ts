/**
 * Boards (RULES 1.1 - 1.3): cells, directions, neighbour and ray tables.
 *
 * A cell is a small integer, numbered in scan order (x ascending, then y ascending), so
 * "sorted cells" everywhere simply means ascending numbers. All tables are built once
 * per board type and never change.
 */

export type BoardType = 'square8' | 'square19' | 'hex8' | 'hexagonal';

export const BOARD_TYPES: readonly BoardType[] = ['square8', 'square19', 'hex8', 'hexagonal'];

/** "No cell". */
export const NONE = -1;

/** A straight line through a cell: the directions towards its two ends. */
export interface Axis {
  readonly forward: number;
  readonly backward: number;
}

export interface Board {
  readonly type: BoardType;
  readonly isHex: boolean;
  readonly cellCount: number;
  readonly x: Int16Array;
  readonly y: Int16Array;
  readonly directionCount: number;
  /** `rays[cell * directionCount + direction]`: the cells met one after the other, up to the edge. */
  readonly rays: readonly Int16Array[];
  /** Movement neighbours, also the steps of a recovery slide. */
  readonly adjacent: readonly Int16Array[];
  /** Territory neighbours: 4 orthogonal on squares, 6 on hexagons. */
  readonly territoryAdjacent: readonly Int16Array[];
  /** "Wide" neighbours, over which border markers spread (4.7, T9). */
  readonly wideAdjacent: readonly Int16Array[];
  readonly lineAxes: readonly Axis[];
  /** The same axes in the order in which recovery looks at them (4.9; order matters, T13). */
  readonly recoveryAxes: readonly Axis[];
  /** Short cell names `x,y` (move keys, state strings). */
  readonly labels: readonly string[];
  readonly labelCodes: readonly Uint8Array[];
  /** Full position keys `x,y` or `x,y,z` (fingerprint, JSON moves) as character codes. */
  readonly keyCodes: readonly Uint8Array[];
  /** Cells in the order of their fingerprint entries, i.e. of the text `key:` (appendix B). */
  readonly fingerprintOrder: Int16Array;
  readonly cellByLabel: ReadonlyMap<string, number>;
  readonly cellByKey: ReadonlyMap<string, number>;
}

type Vector = readonly [dx: number, dy: number];

const SQUARE_DIRECTIONS: readonly Vector[] = [
  [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1],
];
const HEX_DIRECTIONS: readonly Vector[] = [[1, 0], [0, 1], [-1, 1], [-1, 0], [0, -1], [1, -1]];
const ORTHOGONAL: readonly Vector[] = [[0, 1], [1, 0], [0, -1], [-1, 0]];

const SQUARE_LINE_AXES: readonly Vector[] = [[1, 0], [1, 1], [0, 1], [1, -1]];
const SQUARE_RECOVERY_AXES: readonly Vector[] = [[1, 0], [0, 1], [1, 1], [1, -1]];
const HEX_AXES: readonly Vector[] = [[1, 0], [1, -1], [0, -1]];

/** hex8 spreads over the eight square offsets applied to (x,y); hexagonal does not spread (T9). */
const WIDE_DIRECTIONS: Readonly<Record<BoardType, readonly Vector[]>> = {
  square8: SQUARE_DIRECTIONS,
  square19: SQUARE_DIRECTIONS,
  hex8: SQUARE_DIRECTIONS,
  hexagonal: [],
};

/** Side length of a square board, or radius of a hexagonal one. */
const EXTENT: Readonly<Record<BoardType, number>> = { square8: 8, square19: 19, hex8: 4, hexagonal: 12 };

function listCells(type: BoardType): Array<Vector> {
  const extent = EXTENT[type];
  const cells: Array<Vector> = [];
  if (type === 'square8' || type === 'square19') {
    for (let x = 0; x < extent; x++) for (let y = 0; y < extent; y++) cells.push([x, y]);
  } else {
    for (let x = -extent; x <= extent; x++) {
      for (let y = Math.max(-extent, -x - extent); y <= Math.min(extent, -x + extent); y++) cells.push([x, y]);
    }
  }
  return cells;
}

function asciiCodes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function buildBoard(type: BoardType): Board {
  const isHex = type === 'hex8' || type === 'hexagonal';
  const cells = listCells(type);
  const labels = cells.map(([x, y]) => `${x},${y}`);
  // `0 - x - y` rather than `-x - y`, which would give the number -0 at the centre.
  const keys = cells.map(([x, y]) => (isHex ? `${x},${y},${0 - x - y}` : `${x},${y}`));
  const cellByLabel = new Map(labels.map((label, cell) => [label, cell]));

  const neighbours = (vectors: readonly Vector[]): Int16Array[] =>
    cells.map(([x, y]) => {
      const found: number[] = [];
      for (const [dx, dy] of vectors) {
        const cell = cellByLabel.get(`${x + dx},${y + dy}`);
        if (cell !== undefined) found.push(cell);
      }
      return Int16Array.from(found);
    });

  const directions = isHex ? HEX_DIRECTIONS : SQUARE_DIRECTIONS;
  const rays = cells.flatMap(([x, y]) =>
    directions.map(([dx, dy]) => {
      const ray: number[] = [];
      for (let step = 1; ; step++) {
        const cell = cellByLabel.get(`${x + step * dx},${y + step * dy}`);
        if (cell === undefined) return Int16Array.from(ray);
        ray.push(cell);
      }
    }),
  );

  const directionOf = (dx: number, dy: number): number =>
    directions.findIndex((vector) => vector[0] === dx && vector[1] === dy);
  const axes = (vectors: readonly Vector[]): Axis[] =>
    vectors.map(([dx, dy]) => ({ forward: directionOf(dx, dy), backward: directionOf(0 - dx, 0 - dy) }));

  // Entries are sorted as whole strings, so the ':' after the key takes part in the comparison.
  const sortKeys = keys.map((key) => `${key}:`);
  const fingerprintOrder = cells.map((_, cell) => cell);
  fingerprintOrder.sort((a, b) => (sortKeys[a]! < sortKeys[b]! ? -1 : 1));

  return {
    type,
    isHex,
    cellCount: cells.length,
    x: Int16Array.from(cells, (cell) => cell[0]),
    y: Int16Array.from(cells, (cell) => cell[1]),
    directionCount: directions.length,
    rays,
    adjacent: neighbours(directions),
    territoryAdjacent: neighbours(isHex ? HEX_DIRECTIONS : ORTHOGONAL),
    wideAdjacent: neighbours(WIDE_DIRECTIONS[type]),
    lineAxes: axes(isHex ? HEX_AXES : SQUARE_LINE_AXES),
    recoveryAxes: axes(isHex ? HEX_AXES : SQUARE_RECOVERY_AXES),
    labels,
    labelCodes: labels.map(asciiCodes),
    keyCodes: keys.map(asciiCodes),
    fingerprintOrder: Int16Array.from(fingerprintOrder),
    cellByLabel,
    cellByKey: new Map(keys.map((key, cell) => [key, cell])),
  };
}

const boards = new Map<BoardType, Board>();

/** The (shared, immutable) board of a type. */
export function getBoard(type: BoardType): Board {
  let board = boards.get(type);
  if (board === undefined) {
    board = buildBoard(type);
    boards.set(type, board);
  }
  return board;
}

/** The cells met from `cell` in a direction. */
export function rayFrom(board: Board, cell: number, direction: number): Int16Array {
  return board.rays[cell * board.directionCount + direction]!;
}
