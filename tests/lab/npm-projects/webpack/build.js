const fs = require('node:fs');
const path = require('node:path');
const webpack = require('webpack');

const configuration = {
  mode: 'production',
  entry: './src/main.js',
  cache: { type: 'filesystem' },
  output: { path: path.resolve('dist'), filename: '[name].[contenthash].js', clean: true },
  plugins: [new webpack.DefinePlugin({ TOOL: JSON.stringify('webpack') })],
};

const compiler = webpack(configuration, (error, stats) => {
  if (error || stats.hasErrors()) {
    console.error(error || stats.toString());
    process.exit(1);
  }
  const script = Object.keys(stats.compilation.assets)[0];
  fs.writeFileSync('dist/index.html', `<!doctype html>\n<p id="page"></p>\n<script src="/${script}"></script>\n`);
  compiler.close(() => console.log(stats.toString({ colors: false })));
});
