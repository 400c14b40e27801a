/** How a page sends views. */
export interface ViewsOptions {
  /** Where view-ingest is: an origin, and its `--path-prefix` if it has one, such as `https://views.site.example/api`. */
  url: string;
  /**
   * The viewer's token, or what returns it. A function is asked when the first post is seen, and again after a token was
   * refused (401) or could not be had. Leave it out where the token is in a cookie.
   */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /** Whether requests carry the page's cookies (`--jwt-cookie`). Off by default. */
  cookies?: boolean;
  /** How long seen posts are gathered before they are sent, in milliseconds: 3000 by default. */
  flushMs?: number;
  /** Called with the live counts that have come, by post: after each batch of views, and after `counts`. */
  onCounts?: (counts: Record<string, number>) => void;
  /**
   * Called for each request that failed, which is sent again, sooner or later; then `lost` is empty. It has an id that
   * is none, such as `a b`, and is not sent at all. Where the request was answered, the error has its `status`.
   */
  onError?: (error: Error & { status?: number }, lost: string[]) => void;
}

/** A page's views. */
export interface Views {
  /**
   * Sends a view of the post once half of the element, or half of the screen where the element is taller, was visible
   * for a second without a break, in a page that is not hidden. An id is sent once, however many elements show it. An
   * element without a size is not seen until it has one.
   */
  observe(element: Element, postId: string | number): void;
  /** Forgets an element, such as one that the page has removed. What it has shown already is sent. */
  unobserve(element: Element): void;
  /** Sends a view of a post without looking at an element: of the post that a page is about. */
  seen(postId: string | number): void;
  /** Sends at once what is waiting, unless it is being sent already. */
  flush(): Promise<void>;
  /** Returns the live counts of posts; unknown ones are left out. A hundred take one request. Failures reject. */
  counts(postIds: Iterable<string | number>): Promise<Record<string, number>>;
  /** Returns which of the posts this viewer has seen; unknown ones are left out. */
  viewed(postIds: Iterable<string | number>): Promise<Record<string, boolean>>;
}

/** Makes what sends a page's views. Call it once for each page. */
export function createViews(options: ViewsOptions): Views;
