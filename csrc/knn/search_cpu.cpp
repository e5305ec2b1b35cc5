#include "knn/search.h"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>

#include "core/error.h"
#include "core/parallel.h"

namespace pyfast::knn {
namespace {

constexpr int64_t pass_budget = int64_t{40} << 20;  // bytes of working memory of one pass
constexpr int64_t small_bank = int64_t{16} << 20;   // packed databases up to this size are shared by all threads

void raise(float* limit, float value) {
  // Called with the slot's lock held, or after the scan.
  uint32_t bits;
  __atomic_load(reinterpret_cast<uint32_t*>(limit), &bits, __ATOMIC_RELAXED);
  float now;
  std::memcpy(&now, &bits, 4);
  if (value <= now) return;
  std::memcpy(&bits, &value, 4);
  __atomic_store(reinterpret_cast<uint32_t*>(limit), &bits, __ATOMIC_RELAXED);
}

template <class T>
struct Aligned {
  T* data = nullptr;
  explicit Aligned(int64_t n)
      : data(static_cast<T*>(::operator new[](static_cast<size_t>(n + 16) * sizeof(T), std::align_val_t(64)))) {}
  ~Aligned() { ::operator delete[](data, std::align_val_t(64)); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  T* operator+(int64_t i) const { return data + i; }
};

// Everything one pass over a range of queries needs.
class Pass {
 public:
  Pass(const SearchArgs& args, const Space& space, const Source& source, const Kernels& kernels, int64_t capacity,
       int64_t k, int64_t max_queries)
      : args_(args),
        space_(space),
        source_(source),
        kernels_(kernels),
        k_(k),
        screen_k_(k + (args.exclude_self ? 1 : 0)),
        capacity_(capacity),
        width_(space.width(kernels)),
        max_tiles_((max_queries + kernels.max_mr - 1) / kernels.max_mr + 1),
        packed_(max_tiles_ * kernels.max_mr * width_),
        limit_(max_tiles_ * max_tile),
        alpha_(max_tiles_ * max_tile),
        beta_(max_tiles_ * max_tile),
        eta_(max_tiles_ * max_tile),
        lower_(max_queries * capacity),
        upper_(max_queries * capacity),
        row_(max_queries * capacity),
        best_(max_queries * k),
        values_(direct() ? 0 : max_queries * space.d),
        slots_(static_cast<size_t>(max_queries)),
        queries_(static_cast<size_t>(max_queries)) {}

  void begin(int64_t first, int64_t count) {
    first_ = first;
    count_ = count;
    tiles_.clear();
    for (int64_t q = 0; q < count;) {
      const int mr = kernels_.tile_rows(count - q);
      const int64_t t = static_cast<int64_t>(tiles_.size());
      tiles_.push_back({packed_ + t * kernels_.max_mr * width_, mr,
                        static_cast<int32_t>(std::min<int64_t>(mr, count - q)), limit_ + t * max_tile,
                        alpha_ + t * max_tile, beta_ + t * max_tile, eta_ + t * max_tile, slots_.data() + q});
      q += tiles_.back().rows;
    }
    parallel_for(static_cast<int64_t>(tiles_.size()), args_.threads, [&](int64_t t, int) { prepare(t); });
  }

  void scan(const Panels& panels, int64_t first_tile, int64_t tile_count) {
    ScanArgs s{panels, tiles_.data() + first_tile, tile_count, screen_k_ == 1, full, this};
    kernels_.scan(s);
  }

  void finish(const std::vector<uint32_t>& special) {
    constexpr int64_t step = 16;
    parallel_for((count_ + step - 1) / step, args_.threads, [&](int64_t i, int) {
      Ranker ranker(space_, source_, kernels_, k_);
      for (int64_t q = i * step; q < std::min(count_, (i + 1) * step); ++q) finish_query(q, special, ranker);
    });
    if (args_.pass_done) args_.pass_done(first_, count_);
  }

  int64_t tile_count() const { return static_cast<int64_t>(tiles_.size()); }

 private:
  bool direct() const { return args_.queries.dtype == DType::f32 && args_.queries.column_stride == 1; }
  int64_t tile_of(int64_t q) const { return q / kernels_.max_mr; }

  void prepare(int64_t t) {
    const Tile& tile = tiles_[static_cast<size_t>(t)];
    const int64_t first = tile.slots - slots_.data(), ld = space_.scratch_width(kernels_);
    std::vector<uint32_t> words(static_cast<size_t>(ld * tile.mr), 0u);
    float* limit = limit_ + t * max_tile;
    for (int r = 0; r < max_tile; ++r) {
      limit[r] = FLT_MAX;  // reached by nothing: padding and special queries
      alpha_.data[t * max_tile + r] = beta_.data[t * max_tile + r] = eta_.data[t * max_tile + r] = 0;
    }
    for (int r = 0; r < tile.rows; ++r) {
      Query& query = queries_[static_cast<size_t>(first + r)];
      start_query(query, first + r);
      query.bounds = store_query(space_, kernels_, query.q, words.data() + r * ld);
      if (query.bounds.special) continue;
      limit[r] = -FLT_MAX;
      alpha_.data[t * max_tile + r] = query.bounds.alpha;
      beta_.data[t * max_tile + r] = query.bounds.beta;
      eta_.data[t * max_tile + r] = query.bounds.eta;
    }
    kernels_.interleave(words.data(), tile.mr, ld, const_cast<uint32_t*>(tile.packed), tile.mr, width_);
  }

  void start_query(Query& query, int64_t q) {
    const int64_t position = first_ + q;
    query = Query{};
    query.q = args_.queries.get(position, values_ + q * space_.d, kernels_);
    if (space_.metric != Metric::l2) {
      double dot, norm2;
      kernels_.product(query.q, &query.q, 1, space_.d, &dot, &norm2);
      query.norm = std::sqrt(norm2);
    }
    query.best = best_ + q * k_;
    if (args_.exclude_self) query.self = position_of(args_.queries.id(position));
    slots_[static_cast<size_t>(q)] = {
        lower_ + q * capacity_, upper_ + q * capacity_, row_ + q * capacity_, 0, first_trigger(), 0};
  }

  // Where a row number stands among the rows searched, or -1.
  int64_t position_of(int64_t id) const {
    const int64_t* ids = source_.segments.size() == 1 ? source_.segments[0].ids : nullptr;
    if (!ids) return id;
    const int64_t* end = ids + source_.count;
    const int64_t* found = std::lower_bound(ids, end, id);
    return found != end && *found == id ? found - ids : -1;
  }

  int64_t room() const { return capacity_ - 2 * kernels_.nr; }
  int32_t first_trigger() const { return static_cast<int32_t>(std::min(room(), std::max<int64_t>(32, 2 * screen_k_))); }

  // A slot has reached its trigger: raise the limit, drop what falls below it, and if that leaves too much,
  // rank what is left exactly. Nothing is ever dropped for want of space.
  static void full(void* self, Slot* slot, float* limit) {
    Pass& pass = *static_cast<Pass*>(self);
    pass.compact(*slot, limit);
    if (slot->count > pass.room() / 2 && slot->count > 2 * pass.screen_k_) {
      const int64_t q = slot - pass.slots_.data();
      Ranker ranker(pass.space_, pass.source_, pass.kernels_, pass.k_);
      pass.rank(pass.queries_[static_cast<size_t>(q)], *slot, limit, ranker);
    }
    const int64_t next = std::max<int64_t>(pass.first_trigger(), 2 * int64_t{slot->count});
    slot->trigger = static_cast<int32_t>(std::min(pass.room(), next));
    if (slot->count > slot->trigger) {
      const int64_t q = slot - pass.slots_.data();
      Ranker ranker(pass.space_, pass.source_, pass.kernels_, pass.k_);
      pass.rank(pass.queries_[static_cast<size_t>(q)], *slot, limit, ranker);
    }
  }

  void compact(Slot& slot, float* limit) const {
    if (slot.count >= screen_k_ && screen_k_ > 1) {  // for k = 1 every hit has raised the limit already
      raise(limit, kernels_.kth_bound(slot.lower, slot.count, static_cast<int32_t>(screen_k_)));
    }
    const float least = *limit;
    int32_t kept = 0;
    for (int32_t i = 0; i < slot.count; ++i) {
      slot.lower[kept] = slot.lower[i];
      slot.upper[kept] = slot.upper[i];
      slot.row[kept] = slot.row[i];
      kept += slot.upper[i] >= least;
    }
    slot.count = kept;
  }

  void rank(Query& query, Slot& slot, float* limit, Ranker& ranker) {
    ranker.offer_bounded(query, slot.row, slot.count);
    slot.count = 0;
    raise(limit, ranker.bound(query));
  }

  void finish_query(int64_t q, const std::vector<uint32_t>& special, Ranker& ranker) {
    Query& query = queries_[static_cast<size_t>(q)];
    Slot& slot = slots_[static_cast<size_t>(q)];
    if (query.bounds.special) {
      query.best_count = 0;
      ranker.offer_range(query, 0, source_.count);
    } else {
      float* limit = limit_ + tile_of(q) * max_tile + q % kernels_.max_mr;
      compact(slot, limit);
      ranker.offer(query, slot.row, slot.count);
      constexpr size_t batch = 4096;  // bounds the ranker's memory
      for (size_t i = 0; i < special.size(); i += batch)
        ranker.offer(query, special.data() + i, static_cast<int64_t>(std::min(batch, special.size() - i)));
    }
    std::sort(query.best, query.best + query.best_count, before);
    args_.done(first_ + q, query.best, query.best_count);
  }

  const SearchArgs& args_;
  const Space& space_;
  const Source& source_;
  const Kernels& kernels_;
  const int64_t k_, screen_k_, capacity_, width_, max_tiles_;
  int64_t first_ = 0, count_ = 0;
  Aligned<uint32_t> packed_;
  Aligned<float> limit_, alpha_, beta_, eta_, lower_, upper_;
  Aligned<uint32_t> row_;
  Aligned<Scored> best_;
  Aligned<float> values_;
  std::vector<Slot> slots_;
  std::vector<Query> queries_;
  std::vector<Tile> tiles_;
};

// Blocks of a packed bank × ranges of tiles, handed out dynamically.
void scan_bank(Pass& pass, const Bank& bank, int threads) {
  const int64_t blocks = static_cast<int64_t>(bank.blocks.size());
  const int64_t tiles = pass.tile_count();
  const int64_t wanted = std::max<int64_t>(1, 8 * threads / std::max<int64_t>(1, blocks));
  const int64_t step = std::max<int64_t>(1, (tiles + wanted - 1) / wanted);
  const int64_t ranges = (tiles + step - 1) / step;
  parallel_for(blocks * ranges, threads, [&](int64_t i, int) {
    const int64_t b = i / ranges, first = i % ranges * step;
    const Panels panels = bank.blocks[static_cast<size_t>(b)].view(bank.space.width(bank.kernels), bank.kernels.nr,
                                                                   static_cast<uint32_t>(b * bank.block_rows()));
    pass.scan(panels, first, std::min(step, tiles - first));
  });
}

// Rows packed block by block into a thread's own buffer, used for every query of the pass, and forgotten.
void scan_rows(Pass& pass, const Space& space, const Kernels& kernels, const Rows& rows, int threads,
               std::vector<uint32_t>& special) {
  const int64_t panels = block_panels(space, kernels), per_block = panels * kernels.nr;
  const int64_t blocks = (rows.count + per_block - 1) / per_block;
  const int workers = static_cast<int>(std::min<int64_t>(threads, blocks));
  struct Worker {
    Block block;
    PackScratch scratch;
    std::vector<uint32_t> special;
  };
  std::vector<std::unique_ptr<Worker>> state;
  for (int w = 0; w < workers; ++w)
    state.push_back(std::unique_ptr<Worker>(
        new Worker{Block(panels, space.width(kernels), kernels.nr), PackScratch(space, kernels), {}}));
  parallel_for(blocks, workers, [&](int64_t b, int w) {
    Worker& own = *state[static_cast<size_t>(w)];
    const int64_t first = b * per_block, count = std::min(per_block, rows.count - first);
    own.block.clear();
    pack_rows(space, kernels, rows, first, count, own.block, static_cast<uint32_t>(first), own.special, own.scratch);
    pass.scan(own.block.view(space.width(kernels), kernels.nr, static_cast<uint32_t>(first)), 0, pass.tile_count());
  });
  for (auto& worker : state) special.insert(special.end(), worker->special.begin(), worker->special.end());
}

}  // namespace

void search(const SearchArgs& args) {
  const int64_t n = args.queries.count;
  std::unique_ptr<Bank> own;
  const Bank* bank = args.bank;
  const Kernels& kernels = bank ? bank->kernels : *args.kernels;
  Space fitted;
  Source rows;
  if (!bank) {
    require(args.database.count < int64_t{0xffffff00},
            "database: expected fewer than 2^32 - 256 rows; search in parts");
    fitted.fit(args.metric, args.database, kernels);
    rows.add(args.database);
    if (args.database.count * fitted.width(kernels) * 4 <= small_bank) {
      own.reset(new Bank(args.metric, args.database.d, kernels));
      own->append(args.database, args.threads);
      bank = own.get();
    }
  }
  const Space& space = bank ? bank->space : fitted;
  const Source& source = bank ? bank->source : rows;
  const int64_t k = std::min(args.k, source.count);
  if (n == 0 || k == 0) {
    for (int64_t q = 0; q < n; ++q) args.done(q, nullptr, 0);
    if (n && args.pass_done) args.pass_done(0, n);
    return;
  }
  const int64_t capacity = (k == 1 ? 64 : std::max<int64_t>(192, 4 * (k + 1))) + 2 * kernels.nr;
  const int64_t per_query = capacity * 12 + k * static_cast<int64_t>(sizeof(Scored)) + space.width(kernels) * 4 +
                            space.d * 4 + static_cast<int64_t>(sizeof(Query) + sizeof(Slot)) + 32;
  int64_t step = std::clamp<int64_t>(pass_budget / per_query, 1, 16384);
  if (bank) step = std::min<int64_t>(step, 2048);  // nothing is packed again: small passes stay in the caches
  if (args.max_pass) step = std::min(step, args.max_pass);
  const int64_t passes = (n + step - 1) / step;
  step = (n + passes - 1) / passes;  // equal passes: a short last one would pack the database for few queries
  Pass pass(args, space, source, kernels, capacity, k, step);
  for (int64_t first = 0; first < n; first += step) {
    std::vector<uint32_t> special;
    pass.begin(first, std::min(step, n - first));
    if (bank) {
      scan_bank(pass, *bank, args.threads);
    } else {
      scan_rows(pass, space, kernels, args.database, args.threads, special);
    }
    pass.finish(bank ? bank->special : special);
  }
}

void knn_cpu(const SearchArgs& args, const KnnOutput& out) {
  const bool l2 = args.metric == Metric::l2;
  const float pad = l2 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
  SearchArgs run = args;
  const int64_t* ids = args.bank ? nullptr : args.database.ids;
  run.done = [&](int64_t query, const Scored* best, int64_t count) {
    const int64_t row = args.queries.id(query);
    float* distances = out.distances + row * args.k;
    int64_t* indices = out.indices + row * args.k;
    for (int64_t j = 0; j < args.k; ++j) {
      distances[j] = j < count ? static_cast<float>(l2 ? -best[j].key : best[j].key) : pad;
      indices[j] = j < count ? (ids ? ids[best[j].row] : static_cast<int64_t>(best[j].row)) : -1;
    }
  };
  search(run);
}

}  // namespace pyfast::knn
