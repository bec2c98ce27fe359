import theme from 'vitepress/theme';
import './holdfast.css';

export default theme;
