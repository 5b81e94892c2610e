import(/* webpackMode: "eager" */ './text.js').then(({ text }) => {
  document.querySelector('#page').textContent = text;
});
