// The server's answers, as mmrl/viewer/answers.py says; the server describes them at /api/docs.

export interface RunCard {
  id: string; name: string; kind: "run" | "dataset"; method: string; model: string; data: string;
  step: number | null; steps: number | null; state: "running" | "finished" | "failed" | "stopped";
  reward: number | null; spark: (number | null)[]; updated: number | null; problems: string[];
}

export interface RunEvent { time: number; kind: string; [detail: string]: unknown }

export interface Columns { scores: string[]; signals: string[]; origins: string[]; tasks: string[]; modalities: string[] }

/** Files read, of those there are. */
export interface Indexing { done: number; total: number }

export interface Run extends RunCard {
  config_text: string; config: Record<string, unknown>; rewards: Weighted[];
  events: RunEvent[]; step_list: number[]; columns: Columns; indexing: Indexing;
}

export interface Weighted { name: string; weight: number | null }

export interface Metrics { steps: number[]; series: Record<string, (number | null)[]> }

export interface GroupCard {
  step: number; rank: number; group: number; sample_id: string; prompt: string; modality: string; task: string | null;
  n: number; reward: { mean: number | null; min: number | null; max: number | null; std: number | null };
  length: number | null; conflict: number | null; zero_spread: boolean; truncated: number; failed: number; unparsed: number;
  starred: number; thumb: { kind: "image" | "video"; file: string; url: string } | null;
}

export interface RowCard {
  step: number; rank: number; group: number; row: number; sample_id: string; completion: string; made_url: string | null;
  reward: number | null; advantage: number | null; tokens: number; truncated: boolean | null; failed: boolean;
  unparsed: boolean; origin: string; scores: Record<string, number | null>; starred: boolean;
}

export interface Media {
  kind: "image" | "video"; file: string | null; url: string | null; width: number; height: number;
  seen_width: number | null; seen_height: number | null; times: number[]; frame_urls: string[]; missing: boolean;
}

/** Pixels of the stored image, seconds. */
export interface Marks {
  boxes: number[][]; points: number[][]; spans: number[][]; answer: string | null; tolerance: number | null;
}

export interface Row {
  row: number; completion: string; made_url: string | null; made_kind: "image" | "video" | null; tokens: number;
  truncated: boolean | null; origin: string; reward: number | null; advantage: number | null;
  scores: Record<string, number | null>; notes: Record<string, any>; predictions: Marks;
  has_tokens: boolean; failed: boolean; unparsed: boolean; starred: boolean; note: string;
}

export interface Part { type: string; text?: string; media?: number; [rest: string]: unknown }
export interface Message { role: string; content: Part[] }
export interface Place { step: number; rank: number; group: number }

export interface Group extends Place {
  sample_id: string; messages: Message[]; media: Media[]; target: any; meta: any; coordinates: string; rows: Row[];
  gold: Marks; weights: Weighted[]; previous: Place | null; next: Place | null; problems: string[];
}

export interface Tokens { pieces: string[]; values: Record<string, (number | null)[]>; kind: "tokens" | "steps" }

export interface HistoryPoint extends Place { n: number; mean: number | null; min: number | null; max: number | null }
