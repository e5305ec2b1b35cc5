// One exception type: its text is the sentence the user reads.
#pragma once
#include <stdexcept>
#include <string>

namespace pyfast {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void require(bool ok, const std::string& sentence) {
  if (!ok) throw Error(sentence);
}

}  // namespace pyfast
