exports.text = (...words) => words.join(' ');
