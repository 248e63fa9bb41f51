-- Which films can be watched on the most platforms?
select
    movies.title,
    movies.year,
    count(distinct titles.platform) as platforms,
    string_agg(distinct titles.platform, ', ' order by titles.platform) as which_ones
from {{ ref('dim_streaming_titles') }} as titles
inner join {{ ref('dim_movies') }} as movies on titles.movie_key = movies.movie_key
group by movies.movie_key, movies.title, movies.year
having count(distinct titles.platform) > 1
order by platforms desc, movies.movie_key asc
limit 10
